"""Stage 1 of validation: every field is there and of its type (docs/spec/registry.md §6).

"Missing" is what JavaScript finds falsy. Canonical specs pass quickly; the words and the exact place of a
failure are only looked for once something failed.
"""

from __future__ import annotations

from typing import Any

from trionode.registry.coercion import decimals_within
from trionode.registry.constants import DATACENTER_OWNERS
from trionode.registry.hardware import RESOURCES, TIERS
from trionode.registry.reasons import Reason, Rejected, reject
from trionode.wire.jsjson import is_number, truthy

Part = dict[str, Any]
"""A specification, or a component of one."""

_MOST_DECIMALS = 8
_PORT_LIST_FIELDS = ("ports", "domains", "containerPorts")
_FLAT_FIELDS = ("repotag", "enviromentParameters", "commands", "containerData", "cpu", "ram", "hdd")
_TIER_FIELDS = tuple(resource + tier for tier in TIERS for resource in RESOURCES)


def check_types(spec: Part) -> None:
    """Raise Rejected for the first field that is missing or of the wrong type."""
    _check_common(spec)
    version = spec["version"]
    if version == 1:
        _check_v1(spec)
    elif 2 <= version <= 3:
        _check_v2(spec)
    elif 4 <= version < 8:
        _check_components(spec, version)
    elif version >= 8:
        _check_enterprise(spec)
        _check_components(spec, version)
    if version >= 3:
        _check_instances(spec)
    if version >= 5:
        _check_texts(spec, "contacts", Reason.CONTACT_TYPE)
        _check_texts(spec, "geolocation", Reason.GEO_TYPE)
    if version >= 6:
        _check_expire(spec)
    if version >= 7:
        _check_nodes(spec)
    if version >= 8:
        _check_datacenter(spec)


# ---- the whole app -----------------------------------------------------------------------------------


def _check_common(spec: Part) -> None:
    version = spec.get("version")
    if version is None or not truthy(version):
        reject(Reason.MISSING_VERSION, "version", version)
    for key in ("name", "description", "owner"):
        _need(spec, key, Reason.MISSING_COMMON)
    if type(version) is not int:
        if not is_number(version):
            reject(Reason.VERSION_TYPE, "version", version)
        if not decimals_within(version, _MOST_DECIMALS):
            reject(Reason.VERSION_DECIMALS, "version", version, _MOST_DECIMALS)
    _check_text(spec, "name", Reason.NAME_TYPE)
    _check_text(spec, "description", Reason.DESCRIPTION_TYPE)
    _check_text(spec, "owner", Reason.OWNER_TYPE)
    if version == 1:
        _need(spec, "port", Reason.MISSING_PORT_FIELDS)
        _need(spec, "containerPort", Reason.MISSING_PORT_FIELDS)
    elif 2 <= version <= 3:
        for key in _PORT_LIST_FIELDS:
            _need(spec, key, Reason.MISSING_PORT_FIELDS)


def _check_enterprise(spec: Part) -> None:
    enterprise, nodes = spec.get("enterprise"), spec.get("nodes")
    if enterprise is None:
        reject(Reason.MISSING_ENTERPRISE, "enterprise")
    if nodes and isinstance(nodes, list | str) and not truthy(enterprise):
        reject(Reason.NODES_NEED_ENTERPRISE, "nodes", nodes)


def _check_instances(spec: Part) -> None:
    instances = spec.get("instances")
    _need(spec, "instances", Reason.MISSING_INSTANCES)
    if type(instances) is not int:
        if not is_number(instances):
            reject(Reason.NUMBER_TYPE, "instances", instances)
        if not decimals_within(instances, 0):
            reject(Reason.NUMBER_NOT_INTEGER, "instances", instances)


def _check_expire(spec: Part) -> None:
    expire = spec.get("expire")
    _need(spec, "expire", Reason.MISSING_EXPIRE)
    if type(expire) is not int:
        if not is_number(expire):
            reject(Reason.EXPIRE_TYPE, "expire", expire)
        if not decimals_within(expire, 0):
            reject(Reason.EXPIRE_NOT_INTEGER, "expire", expire)


def _check_nodes(spec: Part) -> None:
    _need(spec, "nodes", Reason.MISSING_NODES)
    _check_texts(spec, "nodes", Reason.NODES_TYPE)
    _check_bool(spec, "staticip", Reason.STATICIP_TYPE)


def _check_datacenter(spec: Part) -> None:
    if "datacenter" in spec:
        _check_bool(spec, "datacenter", Reason.DATACENTER_TYPE)
        if spec["datacenter"] and spec["owner"] not in DATACENTER_OWNERS:
            reject(Reason.DATACENTER_OWNER, "datacenter", spec["owner"])


# ---- v1-3: one container -----------------------------------------------------------------------------


def _check_v1(spec: Part) -> None:
    for key in _FLAT_FIELDS:
        _need(spec, key, Reason.MISSING_FLAT_FIELDS)
    _check_port(spec["port"], "port", Reason.PORT_TYPE, Reason.PORT_DECIMALS)
    _check_texts(spec, "enviromentParameters", Reason.ENV_TYPE)
    _check_texts(spec, "commands", Reason.COMMAND_TYPE)
    _check_port(
        spec["containerPort"], "containerPort", Reason.CONTAINER_PORT_TYPE, Reason.CONTAINER_PORT_DECIMALS
    )
    _check_bool(spec, "tiered", Reason.TIERED_TYPE)
    _check_hardware(spec)
    _check_tiers(spec)


def _check_v2(spec: Part) -> None:
    for key in _FLAT_FIELDS:
        _need(spec, key, Reason.MISSING_FLAT_FIELDS)
    _check_port_texts(spec, "ports", Reason.PORT_TYPE, Reason.PORT_DECIMALS)
    _check_texts(spec, "domains", Reason.DOMAIN_TYPE)
    _check_texts(spec, "enviromentParameters", Reason.ENV_TYPE)
    _check_texts(spec, "commands", Reason.COMMAND_TYPE)
    _check_port_texts(spec, "containerPorts", Reason.CONTAINER_PORT_TYPE, Reason.CONTAINER_PORT_DECIMALS)
    _check_bool(spec, "tiered", Reason.TIERED_TYPE)
    _check_hardware(spec)
    _check_tiers(spec)


# ---- v4+: components ---------------------------------------------------------------------------------


def _check_components(spec: Part, version: float) -> None:
    compose = spec.get("compose")
    _need(spec, "compose", Reason.MISSING_COMPOSE)
    if not isinstance(compose, list):
        reject(Reason.SPEC_NOT_OBJECT, "compose", compose, "list of components")
    for number, component in enumerate(compose):
        try:
            _check_component(component, version)
        except Rejected as error:
            raise error.inside(f"compose[{number}]") from None


def _check_component(component: Any, version: float) -> None:
    if type(component) is not dict:
        if component is None or isinstance(component, list):
            reject(Reason.SPEC_NOT_OBJECT, "", component)
        reject(Reason.NAME_TYPE, "name")
    _check_text(component, "name", Reason.NAME_TYPE)
    _check_text(component, "description", Reason.DESCRIPTION_TYPE)
    _check_port_numbers(component, "ports", Reason.PORT_TYPE, Reason.PORT_DECIMALS)
    _check_texts(component, "domains", Reason.DOMAIN_TYPE)
    _check_texts(component, "environmentParameters", Reason.ENV_TYPE)
    _check_texts(component, "commands", Reason.COMMAND_TYPE)
    _check_port_numbers(
        component, "containerPorts", Reason.CONTAINER_PORT_TYPE, Reason.CONTAINER_PORT_DECIMALS
    )
    if version < 8:
        _check_bool(component, "tiered", Reason.TIERED_TYPE)
    _check_hardware(component)
    if version < 8:
        _check_tiers(component)
    if version == 7:
        _check_text(component, "secrets", Reason.SECRETS_TYPE)
    if version >= 7:
        _check_text(component, "repoauth", Reason.REPOAUTH_TYPE)


# ---- single fields -----------------------------------------------------------------------------------


def _need(part: Part, key: str, reason: Reason) -> None:
    value = part.get(key)
    if value is None or not truthy(value):
        reject(reason, key, value)


def _check_text(part: Part, key: str, reason: Reason) -> None:
    value = part.get(key)
    if type(value) is not str:
        reject(reason, key, value)


def _check_bool(part: Part, key: str, reason: Reason) -> None:
    value = part.get(key)
    if value is not True and value is not False:
        reject(reason, key, value)


def _check_texts(part: Part, key: str, reason: Reason) -> None:
    items = part.get(key)
    if type(items) is not list:
        reject(reason, key, items)
    for item in items:
        if type(item) is not str:
            number = next(n for n, item in enumerate(items) if type(item) is not str)
            reject(reason, f"{key}[{number}]", items[number])


def _check_port(value: Any, field: str, wrong_type: Reason, decimals: Reason) -> None:
    if type(value) is int:
        return
    if not is_number(value):
        reject(wrong_type, field, value)
    if not decimals_within(value, 0):
        reject(decimals, field, value)


def _check_port_numbers(part: Part, key: str, wrong_type: Reason, decimals: Reason) -> None:
    ports = part.get(key)
    if type(ports) is not list:
        reject(wrong_type, key, ports)
    for port in ports:
        if type(port) is not int:
            for number, item in enumerate(ports):
                _check_port(item, f"{key}[{number}]", wrong_type, decimals)
            return


def _check_port_texts(part: Part, key: str, wrong_type: Reason, decimals: Reason) -> None:
    ports = part.get(key)
    if type(ports) is not list:
        reject(wrong_type, key, ports)
    for number, port in enumerate(ports):
        if type(port) is not str:
            reject(wrong_type, f"{key}[{number}]", port)
        if not decimals_within(port, 0):
            reject(decimals, f"{key}[{number}]", port)


def _check_hardware(part: Part) -> None:
    for key in ("cpu", "hdd", "ram"):
        value = part.get(key)
        if type(value) is not int and not is_number(value):
            reject(Reason.HW_TYPE, key, value)
    for key in ("cpu", "hdd", "ram"):
        value = part[key]
        if type(value) is not int and not decimals_within(value, _MOST_DECIMALS):
            reject(Reason.HW_DECIMALS, key, value, _MOST_DECIMALS)


def _check_tiers(part: Part) -> None:
    if part["tiered"]:
        for key in _TIER_FIELDS:
            value = part.get(key)
            if not is_number(value) or not decimals_within(value, _MOST_DECIMALS):
                reject(Reason.TIERED_HW_TYPE, key, value, _MOST_DECIMALS)
