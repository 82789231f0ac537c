"""A node with nothing wrong, as `trionode doctor` looks at it, to be made ill in one thing."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import trio

from trionode.chain.conf import DaemonConf
from trionode.cli.client import NodeApi
from trionode.cli.doctor_patient import Patient
from trionode.cli.doctor_report import Finding, Verdict
from trionode.config.tree import Settings
from trionode.errors import ChainError
from trionode.runtime.clock import SystemClock
from trionode.wire.keys import NodeKey

KEY = NodeKey.generate(random.Random(1))
STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "uptimeS": 5000.0,
    "node": {"dos": {"dosState": 0, "dosMessage": None}},
    "chain": {"height": 2_100_000},
    "peers": {"outbound": 20, "inbound": 20},
    "orchestrator": {"phase": "READY", "waitsFor": []},
    "services": [
        {"name": "home port", "state": "ready", "essential": False, "crashes": 0, "lastError": None},
        {"name": "sync port", "state": "ready", "essential": False, "crashes": 0, "lastError": None},
    ],
    "loopLag": {"p99Ms": 1.0, "maxMs": 4.0},
    "store": None,
}


class Rpc:
    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = dict(answers)

    async def call(self, method: str, params: Sequence[Any] = (), *, fresh: bool = False) -> Any:
        await trio.lowlevel.checkpoint()
        found = self.answers.get(method, ChainError("connection refused"))
        if isinstance(found, Exception):
            raise found
        return found

    async def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        return [await self.call(method, params) for method, params in calls]


def now_s() -> int:
    return SystemClock().now_ms() // 1000


def well() -> Patient:
    """A node with nothing wrong."""
    base = Settings()
    row = {"ip": "5.6.7.8", "pubkey": KEY.public_key, "tier": "CUMULUS"}
    return Patient(
        settings=base,
        files=("trionode.toml",),
        env={},
        home=Path("/nowhere"),
        conf=DaemonConf(),
        api=NodeApi("127.0.0.1", 16127),
        daemon=Rpc(
            {
                "getblockchaininfo": {"blocks": 2_100_000, "headers": 2_100_000},
                "getinfo": {"version": 7020050, "connections": 9},
                "viewdeterministiczelnodelist": [row],
                "getzelnodestatus": {"status": "CONFIRMED"},
                "getbestblockhash": "00ab",
                "getblockheader": {"time": now_s() - 20},
            }
        ),
        bench=Rpc(
            {
                "getbenchmarks": {"status": "CUMULUS", "ipaddress": "5.6.7.8"},
                "getinfo": {"version": "9.9.9"},
            }
        ),
        key=KEY,
        status=json.loads(json.dumps(STATUS)),
        peers=[{"remoteClockOffsetMs": offset} for offset in (-100, 50, 300, None)],
    )


def configured(patient: Patient, section: str, **changes: Any) -> None:
    changed = msgspec.structs.replace(getattr(patient.settings, section), **changes)
    patient.settings = msgspec.structs.replace(patient.settings, **{section: changed})


def verdicts(findings: Sequence[Finding]) -> dict[str, str]:
    return {finding.name: finding.verdict.value for finding in findings}


def bad(findings: Sequence[Finding]) -> Finding:
    """The one that is not well; it must name a remedy."""
    (found,) = [one for one in findings if one.verdict in (Verdict.WARN, Verdict.FAIL)]
    assert found.remedy
    return found
