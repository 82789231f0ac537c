"""App messages like those of the network, from a seed: formats 3 to 8, two updates for every three apps."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from trionode.registry.messages import app_message, message_document, signed_text
from trionode.registry.rows import HashRow
from trionode.wire.jsjson import stringify
from trionode.wire.keys import NodeKey

UPDATES = 0.4
OWNERS = 400
VERSIONS = {3: 10, 4: 15, 5: 5, 6: 10, 7: 25, 8: 35}
"""How many in a hundred apps use a format."""

FIRST_HEIGHT = 1_940_000
LAST_HEIGHT = 2_190_000
_EPOCH_MS = 1_750_000_000_000


def specification(version: int, name: str, owner: str, rng: random.Random) -> dict[str, Any]:
    """A specification as people register them: one to three components."""
    spec: dict[str, Any] = {
        "version": version,
        "name": name,
        "description": "An app that does something useful for its owner " + "x" * rng.randrange(120),
        "owner": owner,
    }
    if version == 3:
        spec |= {
            "repotag": f"library/app{rng.randrange(100)}:1.{rng.randrange(20)}",
            "ports": [str(31_000 + rng.randrange(8_000))],
            "domains": [""],
            "enviromentParameters": [f"KEY{n}=value{rng.randrange(9999)}" for n in range(rng.randrange(6))],
            "commands": [],
            "containerPorts": ["8080"],
            "containerData": "/data",
            "cpu": 0.5,
            "ram": 500,
            "hdd": 5,
            "tiered": False,
            "instances": 3,
        }
        return spec
    components = rng.choices((1, 2, 3), (70, 20, 10))[0]
    spec["compose"] = [_component(version, number, rng) for number in range(components)]
    spec["instances"] = rng.randrange(3, 12)
    if version >= 5:
        spec |= {"contacts": ["someone@example.org"], "geolocation": ["acEU", "acNA_US"]}
    if version >= 6:
        spec["expire"] = rng.choice((22_000, 88_000, 264_000))
    if version >= 7:
        spec |= {"nodes": [], "staticip": False}
    if version >= 8:
        spec["enterprise"] = ""
    return spec


def _component(version: int, number: int, rng: random.Random) -> dict[str, Any]:
    port = 31_000 + 1000 * number + rng.randrange(998)
    part: dict[str, Any] = {
        "name": f"part{number}",
        "description": "one of the components",
        "repotag": f"organisation/image{rng.randrange(100)}:2.{rng.randrange(20)}",
        "ports": [port, port + 1],
        "domains": ["www.example.org", ""],
        "environmentParameters": [f"KEY{n}=value{rng.randrange(9999)}" for n in range(rng.randrange(8))],
        "commands": ["--serve"] * rng.randrange(2),
        "containerPorts": [80, 443],
        "containerData": "/var/lib/data",
        "cpu": rng.choice((0.1, 0.5, 1, 2.5)),
        "ram": rng.choice((300, 1000, 4000)),
        "hdd": rng.choice((1, 10, 40)),
    }
    if version < 8:
        part["tiered"] = False
    if version >= 7:
        part["repoauth"] = ""
    if version == 7:
        part["secrets"] = ""
    return part


def messages(count: int, rng: random.Random) -> Iterator[tuple[HashRow, dict[str, Any]]]:
    """`count` payments and the rows that a peer serves for them, in the order of the chain."""
    keys = [NodeKey.generate(rng, compressed=True) for _ in range(OWNERS)]
    apps: list[tuple[int, str, NodeKey, int]] = []
    step = max(1, (LAST_HEIGHT - FIRST_HEIGHT) // count)
    for number in range(count):
        height = FIRST_HEIGHT + number * step
        chosen = rng.choice(apps[-5000:]) if apps and rng.random() < UPDATES else None
        updates = chosen is not None and chosen[3] < height
        if chosen is not None and updates:
            version, name, key, _ = chosen
        else:
            version = rng.choices(tuple(VERSIONS), tuple(VERSIONS.values()))[0]
            name, key = f"App{number}x{rng.randrange(1 << 30):x}", rng.choice(keys)
            apps.append((version, name, key, height))
        spec = specification(version, name, key.address, rng)
        kind = "fluxappupdate" if updates else "fluxappregister"
        timestamp_ms = _EPOCH_MS + number * 1000
        signature = key.sign(signed_text(kind, 1, stringify(spec), timestamp_ms))
        message = app_message(kind, 1, spec, timestamp_ms, signature)
        row = HashRow.found(f"{number:064x}", height, message.hash, 1_000_000_000)
        document = message_document(message) | {"txid": row.txid, "height": height, "valueSat": row.value_sat}
        yield row, document
