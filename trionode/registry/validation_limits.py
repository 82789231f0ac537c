"""Stage 2 of validation: lengths, counts and ranges (docs/spec/registry.md §6, §1).

Texts are measured in UTF-16 code units. The order of the checks is the order of the specification.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from trionode.registry.coercion import num
from trionode.registry.constants import HIGHEST_PORT, TEN_COMPONENTS_HEIGHT, Constants
from trionode.registry.reasons import Reason, Rejected, reject
from trionode.wire.jsjson import truthy, utf16_length

Part = dict[str, Any]

_NAME, _NAME_V8 = 32, 63
_DESCRIPTION = 256
_REPOTAG = 200
_CONTAINER_DATA_SHORTEST, _CONTAINER_DATA = 2, 200
_DOMAIN = 253
_PORTS = 5
_COMPONENTS_AT_FIRST, _COMPONENTS = 5, 10
_SECRET = 15_000


class _ListLimit(NamedTuple):
    """How many texts a list may hold and how long each may be."""

    most: int
    too_many: Reason
    longest: int
    too_long: Reason


_ENVIRONMENT = _ListLimit(20, Reason.ENV_TOO_MANY, 400, Reason.ENV_LENGTH)
_COMMANDS = _ListLimit(20, Reason.COMMAND_TOO_MANY, 400, Reason.COMMAND_LENGTH)
_CONTACTS = _ListLimit(5, Reason.CONTACT_TOO_MANY, 75, Reason.CONTACT_LENGTH)
_GEOLOCATIONS = _ListLimit(10, Reason.GEO_TOO_MANY, 50, Reason.GEO_LENGTH)
_NODES = _ListLimit(120, Reason.NODES_TOO_MANY, 70, Reason.NODE_LENGTH)

_ALPHANUMERIC = re.compile(r"[a-zA-Z0-9]+").fullmatch
_HYPHENATED = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?").fullmatch
_PORT_TEXT = f"0-{HIGHEST_PORT}"


def check_limits(spec: Part, height: int, constants: Constants) -> None:
    """Raise Rejected for the first limit that is exceeded. Types are right (stage 1)."""
    version = spec["version"]
    if version not in constants.activation:
        reject(Reason.VERSION_UNKNOWN, "version", version, _versions_text(constants))
    _check_app_name(spec["name"], version)
    _check_length(spec["description"], _DESCRIPTION, Reason.DESCRIPTION_LENGTH, "description")
    if version >= 4:
        _check_components(spec, height, constants)
    else:
        _check_flat(spec, height, constants)
    if version >= 3:
        _check_instances(spec, height, constants)
    if version >= 5:
        _check_list(spec["contacts"], "contacts", _CONTACTS)
        _check_list(spec["geolocation"], "geolocation", _GEOLOCATIONS)
    if version >= 6:
        _check_expire(spec["expire"], height, constants)
    if version >= 7:
        _check_list(spec["nodes"], "nodes", _NODES)


# ---- the whole app -----------------------------------------------------------------------------------


def _check_app_name(name: str, version: int) -> None:
    most = _NAME_V8 if version >= 8 else _NAME
    _check_length(name, most, Reason.NAME_LENGTH, "name")
    if version >= 8:
        if not _HYPHENATED(name):
            reject(Reason.NAME_CHARS, "name", name, "letters, digits and inner hyphens")
    elif not _ALPHANUMERIC(name):
        reject(Reason.NAME_CHARS, "name", name, "letters and digits")
    if name.startswith("zel"):
        reject(Reason.NAME_PREFIX_ZEL, "name", name)
    if name.lower() == "watchtower":
        reject(Reason.NAME_WATCHTOWER, "name", name)
    if name.startswith("flux"):
        reject(Reason.NAME_PREFIX_FLUX, "name", name)


def _check_instances(spec: Part, height: int, constants: Constants) -> None:
    instances = spec["instances"]
    fewest = constants.min_instances(spec["version"], height)
    if instances < fewest:
        reject(Reason.INSTANCES_MIN, "instances", instances, fewest)
    if instances > constants.max_instances:
        reject(Reason.INSTANCES_MAX, "instances", instances, constants.max_instances)


def _check_expire(expire: float, height: int, constants: Constants) -> None:
    if expire < constants.min_expire(height):
        reject(Reason.EXPIRE_MIN, "expire", expire, constants.min_expire(height))
    if expire > constants.max_expire(height):
        reject(Reason.EXPIRE_MAX, "expire", expire, constants.max_expire(height))
    step = constants.expire_step(height)
    if step > 1 and expire % step:
        reject(Reason.EXPIRE_INTERVAL, "expire", expire, step)


# ---- v1-3: one container -----------------------------------------------------------------------------


def _check_flat(spec: Part, height: int, constants: Constants) -> None:
    if spec["version"] == 1:
        _check_host_port(spec["port"], "port", height, constants)
        _check_container_port(spec["containerPort"], "containerPort")
    else:
        ports, container_ports, domains = spec["ports"], spec["containerPorts"], spec["domains"]
        for number, port in enumerate(ports):
            _check_host_port(num(port), f"ports[{number}]", height, constants)
        for number, port in enumerate(container_ports):
            _check_container_port(num(port), f"containerPorts[{number}]")
        _check_counts(ports, container_ports, domains)
        _check_lengths(domains, "domains", _DOMAIN, Reason.DOMAIN_LENGTH)
    _check_not_short(spec["containerData"])
    _check_length(spec["containerData"], _CONTAINER_DATA, Reason.CONTAINER_DATA_LENGTH, "containerData")
    _check_length(spec["repotag"], _REPOTAG, Reason.REPOTAG_LENGTH, "repotag")
    _check_list(spec["enviromentParameters"], "enviromentParameters", _ENVIRONMENT)
    _check_list(spec["commands"], "commands", _COMMANDS)


# ---- v4+: components ---------------------------------------------------------------------------------


def _check_components(spec: Part, height: int, constants: Constants) -> None:
    compose = spec["compose"]
    if not compose:
        reject(Reason.COMPOSE_EMPTY, "compose")
    most = _COMPONENTS if height >= TEN_COMPONENTS_HEIGHT else _COMPONENTS_AT_FIRST
    if len(compose) > most:
        reject(Reason.COMPONENT_TOO_MANY, "compose", len(compose), most)
    names: set[str] = set()
    for number, component in enumerate(compose):
        try:
            _check_component_name(component["name"], spec["version"], names)
            _check_component(component, height, constants)
            _check_private(component, spec)
        except Rejected as error:
            raise error.inside(f"compose[{number}]") from None


def _check_component_name(name: str, version: int, names: set[str]) -> None:
    if not name:
        reject(Reason.COMPONENT_NAME_MISSING, "name", name)
    _check_length(name, _NAME_V8 if version >= 8 else _NAME, Reason.COMPONENT_NAME_LENGTH, "name")
    if name.startswith("zel"):
        reject(Reason.COMPONENT_PREFIX_ZEL, "name", name)
    if name.startswith("flux"):
        reject(Reason.COMPONENT_PREFIX_FLUX, "name", name)
    if not _ALPHANUMERIC(name):
        reject(Reason.COMPONENT_NAME_CHARS, "name", name)
    if name in names:
        reject(Reason.COMPONENT_NAME_DUPLICATE, "name", name)
    names.add(name)


def _check_component(component: Part, height: int, constants: Constants) -> None:
    ports, container_ports, domains = component["ports"], component["containerPorts"], component["domains"]
    container_data = component.get("containerData")
    _check_length(component["description"], _DESCRIPTION, Reason.DESCRIPTION_LENGTH, "description")
    for number, port in enumerate(ports):
        _check_host_port(port, f"ports[{number}]", height, constants)
    _check_length(component.get("repotag"), _REPOTAG, Reason.REPOTAG_LENGTH, "repotag")
    _check_length(container_data, _CONTAINER_DATA, Reason.CONTAINER_DATA_LENGTH, "containerData")
    _check_list(component["environmentParameters"], "environmentParameters", _ENVIRONMENT)
    _check_list(component["commands"], "commands", _COMMANDS)
    _check_lengths(domains, "domains", _DOMAIN, Reason.DOMAIN_LENGTH)
    for number, port in enumerate(container_ports):
        _check_container_port(port, f"containerPorts[{number}]")
    _check_counts(ports, container_ports, domains)
    _check_not_short(container_data)


def _check_private(component: Part, spec: Part) -> None:
    """What only private apps may fill: v7 names nodes, v8 is an enterprise app."""
    version = spec["version"]
    if version == 7:
        if not spec["nodes"]:
            if component["secrets"]:
                reject(Reason.SECRETS_NEED_NODES, "secrets")
            if component["repoauth"]:
                reject(Reason.REPOAUTH_NEEDS_ENTERPRISE, "repoauth")
        _check_length(component["secrets"], _SECRET, Reason.SECRETS_LENGTH, "secrets")
        _check_length(component["repoauth"], _SECRET, Reason.REPOAUTH_LENGTH, "repoauth")
    elif version == 8:
        if component["repoauth"] and not truthy(spec["enterprise"]):
            reject(Reason.REPOAUTH_NEEDS_ENTERPRISE, "repoauth")
        _check_length(component["repoauth"], _SECRET, Reason.REPOAUTH_LENGTH, "repoauth")


# ---- single fields -----------------------------------------------------------------------------------


def _check_host_port(port: float, field: str, height: int, constants: Constants) -> None:
    lowest, highest = constants.host_ports(height)
    # a text of v2-3 that is no number is neither below nor above, and passes
    if port < lowest or port > highest:
        reject(Reason.PORT_RANGE, field, port, f"{lowest}-{highest}")
    if port in constants.banned_ports:
        reject(Reason.PORT_BANNED, field, port)


def _check_container_port(port: float, field: str) -> None:
    if port < 0 or port > HIGHEST_PORT:
        reject(Reason.CONTAINER_PORT_RANGE, field, port, _PORT_TEXT)


def _check_counts(ports: list[Any], container_ports: list[Any], domains: list[Any]) -> None:
    if len(container_ports) != len(ports):
        reject(Reason.PORT_COUNT, "containerPorts", len(container_ports), len(ports))
    if len(domains) != len(ports):
        reject(Reason.DOMAIN_COUNT, "domains", len(domains), len(ports))
    if len(ports) > _PORTS:
        reject(Reason.PORT_TOO_MANY, "ports", len(ports), _PORTS)


def _check_list(items: list[str], field: str, limit: _ListLimit) -> None:
    if len(items) > limit.most:
        reject(limit.too_many, field, len(items), limit.most)
    if items:
        _check_lengths(items, field, limit.longest, limit.too_long)


def _check_lengths(items: list[str], field: str, most: int, reason: Reason) -> None:
    for item in items:
        if _longer(item, most):
            number = next(n for n, item in enumerate(items) if _longer(item, most))
            reject(reason, f"{field}[{number}]", items[number], most)


def _check_length(value: Any, most: int, reason: Reason, field: str) -> None:
    # only repotag and containerData can be something else than a text here, and numbers have no length
    if type(value) is str:
        if len(value) > most or (not value.isascii() and utf16_length(value) > most):
            reject(reason, field, value, most)
    elif value is None or (isinstance(value, list) and len(value) > most):
        reject(reason, field, value, most)


def _check_not_short(value: Any) -> None:
    if isinstance(value, str | list) and len(value) < _CONTAINER_DATA_SHORTEST:
        length = utf16_length(value) if isinstance(value, str) else len(value)
        if length < _CONTAINER_DATA_SHORTEST:
            reject(Reason.CONTAINER_DATA_SHORT, "containerData", value, _CONTAINER_DATA_SHORTEST)


def _longer(text: str, most: int) -> bool:
    return len(text) > most or (not text.isascii() and utf16_length(text) > most)


def _versions_text(constants: Constants) -> str:
    return f"{min(constants.activation)}-{max(constants.activation)}"
