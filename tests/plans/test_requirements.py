"""Whether a machine may host an app."""

from __future__ import annotations

from typing import Any

import pytest

from trionode.config.tree import ResourceSettings
from trionode.lifecycle.limits import Machine
from trionode.plans.parts import parts_of
from trionode.plans.requirements import Amount, NodeFacts, Place, fits_place, locked_by, refusal

SETTINGS = ResourceSettings()
PRAGUE = Place("EU", "CZ", "Prague")


def node(**more: Any) -> NodeFacts:
    usual = {
        "machine": Machine(8, 32_000, 440),
        "address": "50.60.70.80:16127",
        "collateral": "tx:0",
        "place": PRAGUE,
    }
    return NodeFacts(**{**usual, **more})


def spec(version: int = 8, cpu: float = 1, ram: float = 1000, hdd: float = 10, **more: Any) -> dict[str, Any]:
    compose = [{"name": "web", "cpu": cpu, "ram": ram, "hdd": hdd}]
    return {"version": version, "name": "a", "compose": compose, **more}


@pytest.mark.parametrize(
    ("found", "facts", "code"),
    [
        (spec(), node(), None),
        (spec(cpu=7), node(), None),
        (spec(cpu=7.1), node(), "cpu"),
        (spec(ram=30_000), node(), None),
        (spec(ram=30_001), node(), "memory"),
        (spec(hdd=338), node(), None),
        (spec(hdd=339), node(), "disk"),
        (spec(cpu=5), node(locked=Amount(3, 0, 0)), "cpu"),
        (spec(staticip=True), node(), "static_ip"),
        (spec(6, staticip=True), node(), None),
        (spec(7, nodes=["9.9.9.9"]), node(), "nodes"),
        (spec(7, nodes=["50.60.70.80"]), node(), None),
        (spec(7, nodes=["tx:0"]), node(), None),
        (spec(8, nodes=["9.9.9.9"]), node(), None),
        (spec(geolocation=["acNA"]), node(), "geolocation"),
        (spec(geolocation=["acEU"]), node(place=None), "geolocation"),
        (spec(4, geolocation=["acNA"]), node(), None),
        ({"version": 8, "name": "a", "compose": [], "enterprise": "x"}, node(), "unreadable"),
    ],
)
def test_requirements(found: dict[str, Any], facts: NodeFacts, code: str | None) -> None:
    told = refusal(found, facts, SETTINGS)
    assert (told and told.code) == code


def test_what_only_the_spawner_minds() -> None:
    wants = spec(datacenter=True)
    assert refusal(wants, node(), SETTINGS) is None
    told = refusal(wants, node(), SETTINGS, spawning=True)
    assert told is not None
    assert told.code == "datacenter"
    enterprise = node(is_enterprise=True)
    assert refusal(spec(cpu=2), enterprise, SETTINGS, spawning=True) is None
    crowded = refusal(spec(cpu=3), enterprise, SETTINGS, spawning=True)
    assert crowded is not None
    assert crowded.code == "headroom"


@pytest.mark.parametrize(
    ("entries", "fits"),
    [
        (["acEU"], True),
        (["acEU_CZ"], True),
        (["acEU_CZ_Prague"], True),
        (["acEU_CZ_Prag"], False),
        (["acEU_ALL"], True),
        (["acEU_CZ_ALL"], True),
        (["acALL"], True),
        (["acNA", "acEU"], True),
        (["a!cEU"], False),
        (["a!cEU_DE"], True),
        (["aEU"], True),
        (["aNA"], False),
        (["aEU", "bCZ"], True),
        (["aEU", "bDE"], False),
    ],
)
def test_places(entries: list[str], fits: bool) -> None:
    assert fits_place(entries, PRAGUE) is fits


def test_encrypted_apps_count_with_their_opened_components() -> None:
    opened = parts_of(spec(cpu=2, ram=100, hdd=5, enterprise="x")) or ()
    assert locked_by([opened, opened], SETTINGS) == Amount(4, 200, 34)
