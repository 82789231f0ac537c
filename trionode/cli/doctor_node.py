"""Checks of a running node, by what it says of itself (/trionode/status, docs/api.md)."""

from __future__ import annotations

from collections.abc import Sequence

from trionode.cli.doctor_patient import Patient
from trionode.cli.doctor_report import Finding, fail, ok, skip, warn
from trionode.cli.render import duration

STARTING_S = 900.0
"""A node may take this long to be ready."""
LAG_WARN_MS = 250.0
CRASHES_WARN = 3


async def node(patient: Patient) -> Sequence[Finding]:
    """Whether it runs, is ready, and has no penalty; its services."""
    found = patient.status
    if found is None:
        if patient.foreign:
            return [skip("node", f"something else answers at {patient.api.url}")]
        return [skip("node", f"does not run: nobody answers at {patient.api.url}")]
    up = f"version {found['version']}, up {duration(found['uptimeS'])}"
    return [_phase(found, up), _penalty(found), _services(found), _lag(found)]


def _phase(found: dict[str, object], up: str) -> Finding:
    orchestrator = found.get("orchestrator")
    if not isinstance(orchestrator, dict):
        return ok("node", up)
    phase = str(orchestrator["phase"])
    if phase == "READY":
        return ok("node", f"{up}, READY")
    waits = "; ".join(str(text) for text in orchestrator["waitsFor"]) or "nothing it knows of"
    evidence = f"{up}, {phase}: waits for {waits}"
    young = float(str(found["uptimeS"])) < STARTING_S
    remedy = "wait: a start takes some minutes" if young else "see to what it waits for, and its log"
    return warn("node", evidence, remedy)


def _penalty(found: dict[str, object]) -> Finding:
    inner = found["node"]
    dos = inner["dos"] if isinstance(inner, dict) else {}
    state, said = dos.get("dosState") or 0, dos.get("dosMessage")
    if not state and not said:
        return ok("penalty", "none")
    evidence = f"{state:g} of 100: {said or 'no message'}"
    remedy = "see to what the message names: at 100 all apps are removed"
    return (fail if state >= 100 else warn)("penalty", evidence, remedy)


def _services(found: dict[str, object]) -> Finding:
    rows = found["services"]
    assert isinstance(rows, list)
    down = [row for row in rows if row["state"] != "ready"]
    if down:
        said = "; ".join(f"{row['name']} {row['state']}: {row['lastError'] or 'starting'}" for row in down)
        hard = any(row["essential"] for row in down)
        return (fail if hard else warn)("services", said, "the log of the node has the whole error")
    crashed = [f"{row['name']} {row['crashes']}x" for row in rows if row["crashes"] >= CRASHES_WARN]
    if crashed:
        return warn(
            "services", f"crashed again and again: {', '.join(crashed)}", "see the log, and report it"
        )
    return ok("services", f"{len(rows)} run")


def _lag(found: dict[str, object]) -> Finding:
    lag = found.get("loopLag")
    if not isinstance(lag, dict):
        return skip("event loop", "not measured")
    evidence = f"p99 {lag['p99Ms']:.1f} ms, worst {lag['maxMs']:.1f} ms in the last minute"
    if lag["p99Ms"] > LAG_WARN_MS:
        return warn("event loop", evidence, "the machine is overloaded: see what uses its CPU and disk")
    return ok("event loop", evidence)


async def peers(patient: Patient) -> Sequence[Finding]:
    """Links to other nodes, both ways."""
    name = "peers"
    if patient.status is None:
        return [skip(name, "the node does not run")]
    counts, wanted = patient.status["peers"], patient.settings.peers
    evidence = (
        f"{counts['outbound']} outbound of {wanted.min_outbound}, "
        f"{counts['inbound']} inbound of {wanted.min_inbound}"
    )
    young = patient.status["uptimeS"] < STARTING_S
    if not counts["outbound"] and not counts["inbound"]:
        remedy = "see that the machine is online and `trionode peers`"
        return [(warn if young else fail)(name, f"{evidence}: alone", remedy)]
    if not counts["inbound"]:
        port = patient.settings.node.api_port
        remedy = f"open port {port} (and {port - 1}, {port + 2}) in firewall and router"
        return [warn(name, f"{evidence}: nobody reaches this node", remedy)]
    if counts["outbound"] < wanted.min_outbound or counts["inbound"] < wanted.min_inbound:
        return [warn(name, f"{evidence}: few", "wait some minutes; see `trionode events --name peers:`")]
    return [ok(name, evidence)]
