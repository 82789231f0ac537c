"""The canonical form of a specification, versions 1 to 8 (docs/spec/registry.md §4).

`format_spec` drops unknown keys, converts values the way JavaScript does and puts the keys in the order
that is signed and hashed. It refuses only what has no such form; what a specification may say is the
business of validation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from trionode.errors import WireError
from trionode.registry.coercion import UNDEFINED, container, flag, is_integer, num, text
from trionode.registry.constants import MAINNET, Constants
from trionode.registry.reasons import Reason, Rejected, reject
from trionode.wire.jsjson import JsValue, parse, stringify, truthy

Convert = Callable[[JsValue, str], JsValue]
"""(value found, its key) -> canonical value; UNDEFINED leaves the key out."""

# ---- conversions of single values --------------------------------------------------------------------


def _text(value: JsValue, key: str) -> JsValue:
    return value if isinstance(value, str) else text(value)


def _num(value: JsValue, key: str) -> JsValue:
    # most numbers are ints, and an int of the parser is already in its final form
    return value if type(value) is int else num(value)


def _list_of(item: Callable[[JsValue], JsValue], reason: Reason) -> Convert:
    """A list whose items are converted; what is no list in any reading is refused."""

    def convert(value: JsValue, key: str) -> JsValue:
        items = value if isinstance(value, list) else container(value)
        if not isinstance(items, list):
            reject(reason, key, None if value is UNDEFINED else value)
        return [item(entry) for entry in items]

    return convert


def _list_of_texts(reason: Reason) -> Convert:
    slow = _list_of(text, reason)

    def convert(value: JsValue, key: str) -> JsValue:
        if isinstance(value, list):
            for entry in value:
                if not isinstance(entry, str):
                    break
            else:
                return value.copy()
        return slow(value, key)

    return convert


def _as_it_is(value: JsValue) -> JsValue:
    if isinstance(value, list | dict):
        # text that was read as JSON may nest deeper here than a message may
        try:
            parse(f"[[[[[{stringify(value)}]]]]]")
        except WireError:
            reject(Reason.CONTAINER_PORT_TYPE, "containerPorts")
    return value


def _flat_tiered(value: JsValue, key: str) -> JsValue:
    found = flag(value)
    if found is None:
        reject(Reason.TIERED_TYPE, key, value)
    return found


def _tiered(value: JsValue, key: str) -> JsValue:
    if not isinstance(value, bool):
        reject(Reason.TIERED_TYPE, key, None if value is UNDEFINED else value)
    return value


_DOMAINS = _list_of_texts(Reason.DOMAIN_TYPE)
_ENVIRONMENT = _list_of_texts(Reason.ENV_TYPE)
_COMMANDS = _list_of_texts(Reason.COMMAND_TYPE)
_TEXT_PORTS = _list_of_texts(Reason.PORT_TYPE)
_TEXT_CONTAINER_PORTS = _list_of_texts(Reason.CONTAINER_PORT_TYPE)
_PORTS = _list_of(num, Reason.PORT_TYPE)
_CONTAINER_PORTS = _list_of(_as_it_is, Reason.CONTAINER_PORT_TYPE)
"""From version 4 on container ports keep whatever type they came with."""

# ---- the bodies, key by key in canonical order -------------------------------------------------------

Body = tuple[tuple[str, Convert], ...]

_HARDWARE: Body = (("cpu", _num), ("ram", _num), ("hdd", _num))
_ENDING: Body = (("containerData", _text), *_HARDWARE)

FLAT_1: Body = (
    ("repotag", _text),
    ("port", _num),
    ("enviromentParameters", _ENVIRONMENT),
    ("commands", _COMMANDS),
    ("containerPort", _num),
    *_ENDING,
    ("tiered", _flat_tiered),
)
FLAT_2: Body = (
    ("repotag", _text),
    ("ports", _TEXT_PORTS),
    ("domains", _DOMAINS),
    ("enviromentParameters", _ENVIRONMENT),
    ("commands", _COMMANDS),
    ("containerPorts", _TEXT_CONTAINER_PORTS),
    *_ENDING,
    ("tiered", _flat_tiered),
)
_COMPONENT: Body = (
    ("name", _text),
    ("description", _text),
    ("repotag", _text),
    ("ports", _PORTS),
    ("domains", _DOMAINS),
    ("environmentParameters", _ENVIRONMENT),
    ("commands", _COMMANDS),
    ("containerPorts", _CONTAINER_PORTS),
    *_ENDING,
)
COMPONENT_4: Body = (*_COMPONENT, ("tiered", _tiered))
COMPONENT_8: Body = (*_COMPONENT, ("repoauth", _text))
PRIVATE_7: Body = (("repoauth", _text), ("secrets", _text))
"""Follows the tier values in version 7."""

TIER_VALUES = tuple(f"{part}{tier}" for part in ("cpu", "ram", "hdd") for tier in ("basic", "super", "bamf"))
"""T: the hardware per tier of a tiered app, in canonical order."""


def _convert(body: Body, source: Mapping[str, JsValue], into: dict[str, JsValue]) -> None:
    get = source.get
    for key, convert in body:
        value = convert(get(key, UNDEFINED), key)
        if value is not UNDEFINED:
            into[key] = value


def _tier_values(source: Mapping[str, JsValue], into: dict[str, JsValue]) -> None:
    for key in TIER_VALUES:
        if not truthy(source.get(key)):
            reject(Reason.TIERED_VALUES_MISSING, key, source.get(key))
    for key in TIER_VALUES:
        into[key] = num(source[key])


# ---- the parts of a specification --------------------------------------------------------------------


def _flat(version: float, raw: Mapping[str, JsValue], into: dict[str, JsValue]) -> None:
    """Versions 1-3: one component, its fields at the top."""
    body = FLAT_1 if version == 1 else FLAT_2
    for key, _ in body:
        # `tiered: false` is a value like any other
        if key != "tiered" and not truthy(raw.get(key)):
            reject(Reason.MISSING_FLAT_FIELDS, key, raw.get(key))
    _convert(body, raw, into)
    if into["tiered"]:
        _tier_values(raw, into)


def _component(version: float, source: JsValue) -> dict[str, JsValue]:
    if source is None:
        reject(Reason.SPEC_NOT_OBJECT)
    if not isinstance(source, dict):
        source = {}  # properties of anything else are all absent
    component: dict[str, JsValue] = {}
    if version > 7:
        _convert(COMPONENT_8, source, component)
        return component
    _convert(COMPONENT_4, source, component)
    if component["tiered"]:
        _tier_values(source, component)
    if version == 7:
        _convert(PRIVATE_7, source, component)
    return component


def _compose(version: float, raw: Mapping[str, JsValue]) -> list[JsValue]:
    """Versions from 4 on: a list of components."""
    found = raw.get("compose")
    if not truthy(found):
        reject(Reason.MISSING_COMPOSE, "compose")
    components = container(found)
    if not isinstance(components, list):
        reject(Reason.COMPOSE_NOT_ARRAY, "compose", found)
    formatted: list[JsValue] = []
    for position, source in enumerate(components):
        try:
            formatted.append(_component(version, source))
        except Rejected as error:
            raise error.inside(f"compose[{position}]") from None
    return formatted


def _instances(version: float, raw: Mapping[str, JsValue], constants: Constants) -> JsValue:
    """Here the lower bound of version 8 holds at any height."""
    found = raw.get("instances")
    if not truthy(found):
        reject(Reason.MISSING_INSTANCES, "instances", found)
    count = _num(found, "instances")
    if not is_integer(count):
        reject(Reason.NUMBER_NOT_INTEGER, "instances", found)
    registry = constants.registry
    least = registry.min_instances_v8 if version >= 8 else registry.min_instances
    if count < least:
        reject(Reason.INSTANCES_MIN, "instances", count, least)
    if count > registry.max_instances:
        reject(Reason.INSTANCES_MAX, "instances", count, registry.max_instances)
    return count


def _expire(raw: Mapping[str, JsValue]) -> JsValue:
    found = raw.get("expire")
    if not truthy(found):
        reject(Reason.MISSING_EXPIRE, "expire", found)
    blocks = _num(found, "expire")
    if not is_integer(blocks):
        reject(Reason.EXPIRE_NOT_INTEGER, "expire", found)
    return blocks


_CONTACTS = _list_of_texts(Reason.CONTACT_TYPE)
_GEOLOCATION = _list_of_texts(Reason.GEO_TYPE)
_NODES = _list_of_texts(Reason.NODES_TYPE)


def _tail(version: float, raw: Mapping[str, JsValue], into: dict[str, JsValue], constants: Constants) -> None:
    """What later versions added at the end."""
    if version >= 3:
        into["instances"] = _instances(version, raw, constants)
    if version >= 5:
        for key in ("contacts", "geolocation"):
            if not truthy(raw.get(key)):
                reject(Reason.MISSING_CONTACTS_GEO, key, raw.get(key))
        into["contacts"] = _CONTACTS(raw["contacts"], "contacts")
        into["geolocation"] = _GEOLOCATION(raw["geolocation"], "geolocation")
    if version >= 6:
        into["expire"] = _expire(raw)
    if version >= 7:
        if not truthy(raw.get("nodes")):
            reject(Reason.MISSING_NODES, "nodes", raw.get("nodes"))
        into["nodes"] = _NODES(raw["nodes"], "nodes")
        static_ip = flag(raw.get("staticip"))
        if static_ip is None:
            reject(Reason.STATICIP_TYPE, "staticip", raw.get("staticip"))
        into["staticip"] = static_ip
    if version >= 8:
        datacenter = flag(raw.get("datacenter"))
        if datacenter is not None:
            into["datacenter"] = datacenter
        if "enterprise" in raw:
            blob = raw["enterprise"]
            into["enterprise"] = text(blob) if truthy(blob) else blob


def format_spec(raw: JsValue, constants: Constants = MAINNET) -> dict[str, JsValue]:
    """The canonical form of a specification as received. Raises Rejected when it has none.

    The result shares no list or object with `raw`.
    """
    if raw is None:
        reject(Reason.SPEC_NULL)
    source: Mapping[str, JsValue] = raw if isinstance(raw, dict) else {}
    if not truthy(source.get("version")):
        reject(Reason.MISSING_VERSION, "version", source.get("version"))
    version = num(source["version"])
    spec: dict[str, JsValue] = {"version": version}
    for key in ("name", "description", "owner"):
        if not truthy(source.get(key)):
            reject(Reason.MISSING_COMMON, key, source.get(key))
    for key in ("name", "description", "owner"):
        spec[key] = text(source[key])
    if version in (1, 2, 3):
        _flat(version, source, spec)
    else:
        spec["compose"] = _compose(version, source)
    _tail(version, source, spec, constants)
    return spec
