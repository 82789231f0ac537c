"""Validation: every code with its field, the order of the checks, and that nothing but Rejected comes out."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from appspecs import HEIGHT, OWNER, TIER_VALUES, component, spec, with_component
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from trionode.config.chain import RegistrySettings
from trionode.registry.constants import DATACENTER_OWNERS, Constants
from trionode.registry.formats import format_spec
from trionode.registry.reasons import Reason, Rejected, Rejection
from trionode.registry.validation import validate
from trionode.wire.jsjson import parse, stringify

VERSIONS = range(1, 9)
ACTIVATION = {3: 983_000, 4: 1_004_000, 5: 1_142_000, 6: 1_300_000, 7: 1_420_000, 8: 1_932_380}


def refusal(app: Any, height: int = HEIGHT) -> Rejection:
    with pytest.raises(Rejected) as caught:
        validate(app, height)
    sentence = str(caught.value)
    assert sentence
    assert not any(mark in sentence for mark in ("{field}", "{value}", "{limit}"))
    return caught.value.rejection


def without(app: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in app.items() if name != key}


def two(version: int = 8, **changes: Any) -> dict[str, Any]:
    """An app of two components, the second changed."""
    return spec(version, compose=[component(version), component(version, **{"name": "db"} | changes)])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_proper_spec_passes_and_is_canonical(version: int) -> None:
    app = spec(version)
    validate(app, HEIGHT)
    validate(format_spec(parse(stringify(app))), HEIGHT)


@pytest.mark.parametrize("version", range(1, 8))
def test_a_tiered_spec_passes(version: int) -> None:
    tiered = {"tiered": True} | TIER_VALUES
    validate(spec(version, **tiered) if version <= 3 else with_component(version, **tiered), HEIGHT)


@pytest.mark.parametrize(("version", "height"), ACTIVATION.items())
def test_versions_begin_at_their_heights(version: int, height: int) -> None:
    app = spec(version)
    if version >= 4:
        app["compose"][0]["ports"] = [33333]
    validate(app, height)
    found = refusal(app, height - 1)
    assert (found.code, found.value, found.limit) == (Reason.VERSION_NOT_ACTIVE, version, height)


# (spec, code, field): single failures, in the order of the specification
FAILURES: list[tuple[Any, str, str]] = [
    (None, "SPEC_NOT_OBJECT", "appSpecifications"),
    ([], "SPEC_NOT_OBJECT", "appSpecifications"),
    ("x", "SPEC_NOT_OBJECT", "appSpecifications"),
    (spec(version=0), "MISSING_VERSION", "version"),
    (spec() | {"version": math.nan}, "MISSING_VERSION", "version"),
    (without(spec(), "version"), "MISSING_VERSION", "version"),
    (spec(name=""), "MISSING_COMMON", "name"),
    (spec(description=None), "MISSING_COMMON", "description"),
    (spec() | {"version": "8"}, "VERSION_TYPE", "version"),
    (spec() | {"version": True}, "VERSION_TYPE", "version"),
    (spec() | {"version": 8.123456789}, "VERSION_DECIMALS", "version"),
    (spec(name=5), "NAME_TYPE", "name"),
    (spec(description=["x"]), "DESCRIPTION_TYPE", "description"),
    (spec(owner={"a": 1}), "OWNER_TYPE", "owner"),
    # v1-3
    (spec(1, port=0), "MISSING_PORT_FIELDS", "port"),
    (without(spec(2), "domains"), "MISSING_PORT_FIELDS", "domains"),
    (spec(1, cpu=0), "MISSING_FLAT_FIELDS", "cpu"),
    (spec(2, repotag=""), "MISSING_FLAT_FIELDS", "repotag"),
    (spec(1, port="33333"), "PORT_TYPE", "port"),
    (spec(1, port=33333.5), "PORT_DECIMALS", "port"),
    (spec(1, containerPort=True), "CONTAINER_PORT_TYPE", "containerPort"),
    (spec(1, containerPort=0.5), "CONTAINER_PORT_DECIMALS", "containerPort"),
    (spec(2, ports=["33333", 33334]), "PORT_TYPE", "ports[1]"),
    (spec(2, ports=["33333", "1.5"]), "PORT_DECIMALS", "ports[1]"),
    (spec(2, containerPorts="80"), "CONTAINER_PORT_TYPE", "containerPorts"),
    (spec(2, domains=[5, ""]), "DOMAIN_TYPE", "domains[0]"),
    (spec(2, enviromentParameters={}), "ENV_TYPE", "enviromentParameters"),
    (spec(2, commands=[None]), "COMMAND_TYPE", "commands[0]"),
    (spec(2, tiered="true"), "TIERED_TYPE", "tiered"),
    (spec(2, cpu="0.5"), "HW_TYPE", "cpu"),
    (spec(2, hdd=1.123456789), "HW_DECIMALS", "hdd"),
    (spec(2, tiered=True), "TIERED_HW_TYPE", "cpubasic"),
    (spec(2, tiered=True, **TIER_VALUES | {"rambamf": "1"}), "TIERED_HW_TYPE", "rambamf"),
    (spec(1, port=16100), "PORT_BANNED", "port"),
    (spec(2, ports=["33333", "22"]), "PORT_BANNED", "ports[1]"),
    (spec(2, ports=["33333", "0"]), "PORT_RANGE", "ports[1]"),
    (spec(2, containerPorts=["80", "-1"]), "CONTAINER_PORT_RANGE", "containerPorts[1]"),
    (spec(2, containerPorts=["80"]), "PORT_COUNT", "containerPorts"),
    (spec(2, domains=[]), "DOMAIN_COUNT", "domains"),
    (spec(2, domains=["x" * 254, ""]), "DOMAIN_LENGTH", "domains[0]"),
    (spec(2, containerData="/"), "CONTAINER_DATA_SHORT", "containerData"),
    (spec(2, containerData="/" * 201), "CONTAINER_DATA_LENGTH", "containerData"),
    (spec(2, repotag="x" * 201), "REPOTAG_LENGTH", "repotag"),
    (spec(2, enviromentParameters=["x"] * 21), "ENV_TOO_MANY", "enviromentParameters"),
    (spec(2, commands=["", "x" * 401]), "COMMAND_LENGTH", "commands[1]"),
    (spec(2, ports=["33333", "33333"]), "PORT_DUPLICATE", "ports"),
    (spec(2, cpu=0.15), "HW_CPU_RANGE", "cpu"),
    (spec(2, cpu=15.1), "HW_CPU_RANGE", "cpu"),
    (spec(2, ram=150), "HW_RAM_RANGE", "ram"),
    (spec(2, hdd=821), "HW_HDD_RANGE", "hdd"),
    (spec(2, tiered=True, **TIER_VALUES | {"hddsuper": 381}), "HW_TIER_RANGE", "hddsuper"),
    # v4+
    (without(spec(4), "compose"), "MISSING_COMPOSE", "compose"),
    (spec(4, compose={}), "SPEC_NOT_OBJECT", "compose"),
    (spec(4, compose=[[]]), "SPEC_NOT_OBJECT", "compose[0]"),
    (spec(4, compose=[None]), "SPEC_NOT_OBJECT", "compose[0]"),
    (spec(4, compose=[5]), "NAME_TYPE", "compose[0].name"),
    (spec(compose=[]), "COMPOSE_EMPTY", "compose"),
    (two(description=None), "DESCRIPTION_TYPE", "compose[1].description"),
    (two(ports=[33334, "1"]), "PORT_TYPE", "compose[1].ports[1]"),
    (two(containerPorts=[0.5]), "CONTAINER_PORT_DECIMALS", "compose[1].containerPorts[0]"),
    (two(7, tiered=0), "TIERED_TYPE", "compose[1].tiered"),
    (two(ram=None), "HW_TYPE", "compose[1].ram"),
    (two(7, secrets=None), "SECRETS_TYPE", "compose[1].secrets"),
    (two(8, repoauth=5), "REPOAUTH_TYPE", "compose[1].repoauth"),
    (without(spec(), "enterprise"), "MISSING_ENTERPRISE", "enterprise"),
    (spec(nodes=["n"]), "NODES_NEED_ENTERPRISE", "nodes"),
    (spec(instances="3"), "NUMBER_TYPE", "instances"),
    (spec(instances=3.5), "NUMBER_NOT_INTEGER", "instances"),
    (spec(contacts="a"), "CONTACT_TYPE", "contacts"),
    (spec(geolocation=["a", 5]), "GEO_TYPE", "geolocation[1]"),
    (spec(expire="22000"), "EXPIRE_TYPE", "expire"),
    (spec(expire=22000.5), "EXPIRE_NOT_INTEGER", "expire"),
    (spec(7, nodes=[5]), "NODES_TYPE", "nodes[0]"),
    (spec(staticip="false"), "STATICIP_TYPE", "staticip"),
    (spec(datacenter=None), "DATACENTER_TYPE", "datacenter"),
    (spec(datacenter=True), "DATACENTER_OWNER", "datacenter"),
    (spec(7, name="a-b"), "NAME_CHARS", "name"),
    (spec(name="a-"), "NAME_CHARS", "name"),
    (spec(name="zelapp"), "NAME_PREFIX_ZEL", "name"),
    (spec(name="WatchTower"), "NAME_WATCHTOWER", "name"),
    (spec(name="fluxapp"), "NAME_PREFIX_FLUX", "name"),
    (spec(4, name="\u0130stanbul"), "NAME_CHARS", "name"),
    (spec(description="😀" * 128 + "x"), "DESCRIPTION_LENGTH", "description"),
    (with_component(name=""), "COMPONENT_NAME_MISSING", "compose[0].name"),
    (with_component(name="x" * 64), "COMPONENT_NAME_LENGTH", "compose[0].name"),
    (two(name="web"), "COMPONENT_NAME_DUPLICATE", "compose[1].name"),
    (two(repotag=None), "REPOTAG_LENGTH", "compose[1].repotag"),
    (two(containerData="é"), "CONTAINER_DATA_SHORT", "compose[1].containerData"),
    (two(environmentParameters=["x" * 401]), "ENV_LENGTH", "compose[1].environmentParameters[0]"),
    (with_component(7, secrets="x"), "SECRETS_NEED_NODES", "compose[0].secrets"),
    (with_component(7, repoauth="x"), "REPOAUTH_NEEDS_ENTERPRISE", "compose[0].repoauth"),
    (with_component(8, repoauth="x"), "REPOAUTH_NEEDS_ENTERPRISE", "compose[0].repoauth"),
    (spec(contacts=["a"] * 6), "CONTACT_TOO_MANY", "contacts"),
    (spec(contacts=["a" * 76]), "CONTACT_LENGTH", "contacts[0]"),
    (spec(geolocation=["a"] * 11), "GEO_TOO_MANY", "geolocation"),
    (spec(geolocation=["a" * 51]), "GEO_LENGTH", "geolocation[0]"),
    (spec(nodes=["a" * 71], enterprise="x"), "NODE_LENGTH", "nodes[0]"),
    (spec(surprise=1), "UNKNOWN_KEY", "surprise"),
    (spec(6, nodes=[]), "UNKNOWN_KEY", "nodes"),
    (two(8, secrets=""), "UNKNOWN_KEY", "compose[1].secrets"),
    (two(), "PORT_DUPLICATE", "ports"),
    (with_component(cpu=15.1), "HW_CPU_TOTAL", "compose"),
    (with_component(ram=59_001), "HW_RAM_TOTAL", "compose"),
    (with_component(hdd=820.5), "HW_HDD_TOTAL", "compose"),
]


@pytest.mark.parametrize(("app", "code", "field"), FAILURES)
def test_a_failure_names_code_and_field(app: Any, code: str, field: str) -> None:
    found = refusal(app)
    assert (str(found.code), found.field) == (code, field)


def test_a_failure_says_value_and_limit_in_a_sentence() -> None:
    found = refusal(spec(instances=101))
    assert (found.value, found.limit) == (101, 100)
    assert found.sentence == "101 instances are too many, at most 100 are allowed."
    assert "31000-39999" in refusal(with_component(4, ports=[80]), 1_100_000).sentence


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": 5, "version": "8"}, "VERSION_TYPE"),  # version before name
        ({"name": 5, "description": ""}, "MISSING_COMMON"),  # missing before types
        ({"name": "a-", "staticip": 5}, "STATICIP_TYPE"),  # all types before limits
        ({"name": "x" * 64, "surprise": 1}, "NAME_LENGTH"),  # limits before keys
        ({"instances": 101, "contacts": ["a"] * 6}, "INSTANCES_MAX"),
        ({"surprise": 1, "compose": [component(cpu=99)]}, "UNKNOWN_KEY"),  # keys before hardware
        ({"enterprise": None, "compose": 5}, "MISSING_ENTERPRISE"),
    ],
)
def test_the_first_failure_wins(changes: dict[str, Any], code: str) -> None:
    assert str(refusal(spec() | changes).code) == code


def test_component_checks_run_component_by_component() -> None:
    app = spec(compose=[component(containerData="x"), component(name="flux")])
    assert refusal(app).field == "compose[0].containerData"


def test_version_before_activation_is_only_seen_after_limits() -> None:
    assert refusal(spec(8, name="fluxapp"), 1_800_000).code is Reason.NAME_PREFIX_FLUX


@pytest.mark.parametrize("height", [1_299_999, 1_300_000])
def test_number_of_components_by_height(height: int) -> None:
    parts = [component(5, name=f"c{n}", ports=[31_000 + n], cpu=0.1, ram=100) for n in range(6)]
    if height < 1_300_000:
        assert refusal(spec(5, compose=parts), height).limit == 5
    else:
        validate(spec(5, compose=parts), height)


def test_ports_of_v2_are_texts_that_may_be_no_numbers() -> None:
    validate(spec(2, ports=["abc", "80."]), HEIGHT)


def test_numbers_in_exponent_form_count_as_whole() -> None:
    assert refusal(spec(expire=1e-7)).code is Reason.EXPIRE_MIN
    assert refusal(with_component(ports=[1e21])).code is Reason.PORT_RANGE


def test_v4_has_no_least_hardware() -> None:
    validate(with_component(cpu=-1, ram=0, hdd=0.5), HEIGHT)


def test_one_tiered_component_bounds_all_by_tiers() -> None:
    tiered = component(6, tiered=True, **TIER_VALUES | {"hddbasic": 100})
    plain = component(6, name="db", ports=[33334], hdd=61)
    found = refusal(spec(6, compose=[tiered, plain]))
    assert (found.code, found.field, found.value, found.limit) == (
        Reason.HW_TIER_TOTAL,
        "hddbasic",
        161,
        160,
    )
    plain["hdd"] = 60
    validate(spec(6, compose=[tiered, plain]), HEIGHT)


def test_datacenter_is_for_its_owners() -> None:
    validate(spec(datacenter=True, owner=next(iter(DATACENTER_OWNERS))), HEIGHT)
    validate(spec(datacenter=False, owner=OWNER), HEIGHT)


def test_a_network_of_its_own_has_its_own_heights() -> None:
    constants = Constants(RegistrySettings(max_instances=5))
    validate(spec(instances=5), HEIGHT, constants)
    with pytest.raises(Rejected, match="at most 5"):
        validate(spec(instances=6), HEIGHT, constants)


def test_validation_leaves_the_spec_alone() -> None:
    app = spec()
    before = copy.deepcopy(app)
    validate(app, HEIGHT)
    assert app == before


# ---- whatever comes, the answer is a refusal or none -------------------------------------------------

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["80", "80.", "x" * 500, "😀" * 300, "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            found += paths(value[key], (*path, key))
    return found


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """A proper spec with one to three values replaced or removed."""
    version = draw(st.integers(1, 8))
    app = spec(version)
    if version < 8 and draw(st.booleans()):
        (app if version <= 3 else app["compose"][0]).update({"tiered": True} | TIER_VALUES)
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from(paths(app)))
        place: Any = app
        for key in parents:
            place = place[key]
        if isinstance(place, dict) and draw(st.integers(0, 5)) == 0:
            del place[last]
        else:
            place[last] = draw(JSON_VALUES)
        if not app:
            break
    return app


@settings(max_examples=examples(200), deadline=None)
@given(damaged(), st.integers(0, 3_000_000))
def test_a_damaged_spec_is_refused_in_words_or_passes(app: dict[str, Any], height: int) -> None:
    try:
        validate(app, height)
    except Rejected as error:
        found = error
    else:
        return
    assert str(found)
    assert found.rejection.as_document()["code"] == found.code
