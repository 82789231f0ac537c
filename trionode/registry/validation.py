"""Whether a specification may be registered at a height: the stages of docs/spec/registry.md §6 in order.

The first failure wins, so the order of stages and of checks inside them is part of the rule. Stage 7, what
the images of the app are, needs the world: its pure part is in images.py and only our own users meet it.
"""

from __future__ import annotations

from trionode.registry.constants import MAINNET, Constants
from trionode.registry.hardware import check_flat_hardware, check_total_hardware
from trionode.registry.reasons import Reason, reject
from trionode.registry.validation_keys import check_keys
from trionode.registry.validation_limits import check_limits
from trionode.registry.validation_types import check_types
from trionode.wire.jsjson import JsValue


def validate(spec: JsValue, height: int, constants: Constants = MAINNET) -> None:
    """Raise Rejected unless `spec` (normally in canonical form) may be registered at `height`."""
    if not isinstance(spec, dict):  # stage 0
        reject(Reason.SPEC_NOT_OBJECT, "appSpecifications", spec)
    check_types(spec)  # stage 1
    check_limits(spec, height, constants)  # stage 2
    version = spec["version"]
    if height < constants.activation[version]:  # stage 3
        reject(Reason.VERSION_NOT_ACTIVE, "version", version, constants.activation[version])
    check_keys(spec)  # stage 4
    _check_ports_unique(spec)  # stage 5
    if version <= 3:  # stage 6
        check_flat_hardware(spec)
    else:
        check_total_hardware(spec["compose"])


def _check_ports_unique(spec: dict[str, JsValue]) -> None:
    """No host port twice in the whole app. The texts of v2-3 are compared as texts."""
    version = spec["version"]
    if version == 1:
        return
    if version <= 3:
        ports = spec["ports"]
    else:
        compose = spec["compose"]
        ports = compose[0]["ports"]
        if len(compose) > 1:
            ports = [port for component in compose for port in component["ports"]]
    if len(ports) > 1 and len(set(ports)) != len(ports):
        twice = next(port for number, port in enumerate(ports) if port in ports[:number])
        reject(Reason.PORT_DUPLICATE, "ports", twice)
