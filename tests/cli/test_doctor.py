"""`trionode doctor` on node, daemons and clock: what it sees, and the remedy it names (docs/cli.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
from patients import KEY, bad, configured, now_s, verdicts, well

from trionode.cli import doctor_chain, doctor_node
from trionode.cli.doctor_patient import Patient
from trionode.cli.doctor_report import Check, Finding, Verdict, examine, ok
from trionode.errors import ChainError, HostError

# ---- running them --------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_checks_run_side_by_side_none_longer_than_its_time(autojump_clock: Any) -> None:
    async def slow(patient: Patient) -> Sequence[Finding]:
        await trio.sleep(1000)
        return []

    async def good(patient: Patient) -> Sequence[Finding]:
        await trio.sleep(5)
        return [ok("good", "seen")]

    async def broken(patient: Patient) -> Sequence[Finding]:
        raise HostError("it is broken", remedy="mend it")

    began = trio.current_time()
    checks = (
        Check("slow", slow, within_s=10),
        Check("late", slow, within_s=10, late=Verdict.WARN),
        Check("good", good),
        Check("broken", broken),
    )
    found = await examine(well(), checks)
    assert trio.current_time() - began == 10
    assert verdicts(found) == {"slow": "fail", "late": "warn", "good": "ok", "broken": "fail"}
    assert found[3].remedy == "mend it"


# ---- daemons, key, address, clock ----------------------------------------------------------------------


@pytest.mark.trio
async def test_a_well_node_has_nothing_wrong() -> None:
    patient = well()
    for look in (doctor_chain.daemon, doctor_chain.benchmark, doctor_chain.key, doctor_chain.clock):
        assert set(verdicts(await look(patient)).values()) == {"ok"}
    for look in (doctor_node.node, doctor_node.peers):
        assert set(verdicts(await look(patient)).values()) == {"ok"}


@pytest.mark.trio
@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"getblockchaininfo": ChainError("connection refused")}, "connection refused"),
        ({"getblockchaininfo": {"blocks": 5, "headers": 100}}, "not synced"),
        ({"getblockchaininfo": "hello"}, "not answer like"),
        ({"getinfo": {"connections": 1}}, "1 connections"),
    ],
)
async def test_daemons_that_are_ill(answers: dict[str, Any], said: str) -> None:
    patient = well()
    patient.daemon.answers |= answers  # type: ignore[attr-defined]
    assert said in bad(await doctor_chain.daemon(patient)).evidence


@pytest.mark.trio
@pytest.mark.parametrize(("within", "verdict"), [(5, "fail"), (6, "ok")])
async def test_how_far_behind_is_not_synced_is_a_setting(within: int, verdict: str) -> None:
    patient = well()
    patient.daemon.answers["getblockchaininfo"] = {"blocks": 95, "headers": 100}  # type: ignore[attr-defined]
    configured(patient, "chain", synced_within_blocks=within)
    assert verdicts(await doctor_chain.daemon(patient))["daemon"] == verdict


@pytest.mark.trio
@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"getbenchmarks": ChainError("connection refused")}, "connection refused"),
        ({"getbenchmarks": {"status": "failed", "error": "eps too low"}}, "failed: eps too low"),
        ({"getinfo": {"version": "1.0.0"}}, "is asked for"),
    ],
)
async def test_benchmarks_that_are_ill(answers: dict[str, Any], said: str) -> None:
    patient = well()
    patient.bench.answers |= answers  # type: ignore[attr-defined]
    found = bad(await doctor_chain.benchmark(patient))
    assert said in found.evidence
    assert found.verdict is Verdict.FAIL


@pytest.mark.trio
@pytest.mark.parametrize(
    ("status", "verdict"), [("STARTED", "warn"), ("EXPIRED", "fail"), ("DOS", "fail"), ("strange", "fail")]
)
async def test_confirmations(status: str, verdict: str) -> None:
    patient = well()
    patient.daemon.answers["getzelnodestatus"] = {"status": status}  # type: ignore[attr-defined]
    found = bad(await doctor_chain.key(patient))
    assert (found.name, found.verdict.value) == ("confirmation", verdict)


@pytest.mark.trio
async def test_a_key_that_is_not_listed_or_not_there() -> None:
    patient = well()
    patient.daemon.answers["viewdeterministiczelnodelist"] = []  # type: ignore[attr-defined]
    found = bad(await doctor_chain.key(patient))
    assert "not in the list of 0 nodes" in found.evidence
    assert KEY.wif not in found.evidence
    patient.key = None
    assert verdicts(await doctor_chain.key(patient)) == {"key": "skip"}


@pytest.mark.trio
@pytest.mark.parametrize(
    ("address", "said", "verdict"),
    [
        ("5.6.7.8:16137", "the API listens on 16127", "fail"),
        ("192.168.1.5", "not public", "fail"),
        ("9.9.9.9", "is listed at 5.6.7.8", "warn"),
        ("", "no address", "fail"),
    ],
)
async def test_addresses(address: str, said: str, verdict: str) -> None:
    patient = well()
    patient.bench.answers["getbenchmarks"] = {"ipaddress": address}  # type: ignore[attr-defined]
    found = bad(await doctor_chain.key(patient))
    assert (found.name, found.verdict.value) == ("address", verdict)
    assert said in found.evidence


@pytest.mark.trio
@pytest.mark.parametrize(
    ("block_age_s", "offsets_ms", "verdict"),
    [
        (20, [0, 100], "ok"),
        (-600, [0], "fail"),
        (20, [5000, 5100, 0], "warn"),
        (20, [-90_000, -91_000], "fail"),
        (7200, [], "warn"),
        (7200, [10], "ok"),
        (None, [], "skip"),
    ],
)
async def test_clocks(block_age_s: int | None, offsets_ms: list[int], verdict: str) -> None:
    patient = well()
    header = ChainError("no") if block_age_s is None else {"time": now_s() - block_age_s}
    patient.daemon.answers["getblockheader"] = header  # type: ignore[attr-defined]
    patient.peers = [{"remoteClockOffsetMs": offset} for offset in offsets_ms]
    assert verdicts(await doctor_chain.clock(patient)) == {"clock": verdict}


# ---- the node ------------------------------------------------------------------------------------------


@pytest.mark.trio
@pytest.mark.parametrize(
    ("change", "name", "verdict"),
    [
        ({"orchestrator": {"phase": "SYNCING", "waitsFor": ["peers"]}}, "node", "warn"),
        ({"node": {"dos": {"dosState": 100, "dosMessage": "x"}}}, "penalty", "fail"),
        ({"node": {"dos": {"dosState": 4, "dosMessage": None}}}, "penalty", "warn"),
        ({"loopLag": {"p99Ms": 900.0, "maxMs": 1000.0}}, "event loop", "warn"),
    ],
)
async def test_running_nodes_that_are_ill(change: dict[str, Any], name: str, verdict: str) -> None:
    patient = well()
    assert patient.status is not None
    patient.status |= change
    found = bad(await doctor_node.node(patient))
    assert (found.name, found.verdict.value) == (name, verdict)


@pytest.mark.trio
async def test_services_that_are_down() -> None:
    patient = well()
    assert patient.status is not None
    row = {"name": "peers", "state": "backoff", "essential": True, "crashes": 1, "lastError": "boom"}
    patient.status["services"].append(row)
    found = bad(await doctor_node.node(patient))
    assert (found.verdict, found.evidence) == (Verdict.FAIL, "peers backoff: boom")


@pytest.mark.trio
@pytest.mark.parametrize(
    ("out", "inward", "verdict", "said"),
    [(0, 0, "fail", "alone"), (20, 0, "warn", "nobody reaches"), (2, 1, "warn", "few")],
)
async def test_peers(out: int, inward: int, verdict: str, said: str) -> None:
    patient = well()
    assert patient.status is not None
    patient.status["peers"] = {"outbound": out, "inbound": inward}
    found = bad(await doctor_node.peers(patient))
    assert found.verdict.value == verdict
    assert said in found.evidence
