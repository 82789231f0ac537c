"""Specifications of every version that may be registered, to be changed by tests."""

from __future__ import annotations

from typing import Any

OWNER = "128fMUxkrb7bB8CmCHj83XMkS7QME6Jifk"
HEIGHT = 2_200_000
TIER_VALUES: dict[str, float] = {
    "cpubasic": 0.5,
    "cpusuper": 1,
    "cpubamf": 2,
    "rambasic": 500,
    "ramsuper": 1000,
    "rambamf": 2000,
    "hddbasic": 5,
    "hddsuper": 10,
    "hddbamf": 20,
}


def component(version: int = 8, **changes: Any) -> dict[str, Any]:
    """A component of v4 and later."""
    part: dict[str, Any] = {
        "name": "web",
        "description": "web component",
        "repotag": "nginx:1.25",
        "ports": [33333],
        "domains": ["example.org"],
        "environmentParameters": ["A=1"],
        "commands": ["--serve"],
        "containerPorts": [80],
        "containerData": "/data",
        "cpu": 0.5,
        "ram": 500,
        "hdd": 5,
    }
    if version < 8:
        part["tiered"] = False
    if version >= 7:
        part["repoauth"] = ""
    if version == 7:
        part["secrets"] = ""
    return part | changes


def spec(version: int = 8, **changes: Any) -> dict[str, Any]:
    """A specification that validates at HEIGHT."""
    app: dict[str, Any] = {
        "version": version,
        "name": f"SpecApp{version}",
        "description": "an app",
        "owner": OWNER,
    }
    if version == 1:
        app |= {"repotag": "nginx:1.25", "port": 33333, "containerPort": 80}
    elif version <= 3:
        app |= {
            "repotag": "nginx:1.25",
            "ports": ["33333", "33334"],
            "domains": ["a.example", ""],
            "containerPorts": ["80", "443"],
        }
    if version <= 3:
        app |= {
            "enviromentParameters": ["A=1"],
            "commands": [],
            "containerData": "/data",
            "cpu": 0.5,
            "ram": 500,
            "hdd": 5,
            "tiered": False,
        }
    else:
        app["compose"] = [component(version)]
    if version >= 3:
        app["instances"] = 3
    if version >= 5:
        app |= {"contacts": ["a@b.c"], "geolocation": ["acEU"]}
    if version >= 6:
        app["expire"] = 22_000
    if version >= 7:
        app |= {"nodes": [], "staticip": False}
    if version >= 8:
        app["enterprise"] = ""
    return app | changes


def with_component(version: int = 8, **changes: Any) -> dict[str, Any]:
    """The same with a changed component."""
    return spec(version, compose=[component(version, **changes)])
