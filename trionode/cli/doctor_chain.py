"""Checks of what the node stands on: daemons, key, address, clock (docs/spec/daemon-rpc.md)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from trionode.cli.doctor_patient import Patient
from trionode.cli.doctor_report import Finding, fail, failed_by, ok, skip, warn
from trionode.cli.render import duration
from trionode.errors import ChainError
from trionode.runtime.clock import SystemClock
from trionode.wire.address import AddressError, is_routable_ipv4, same_address, split_address
from trionode.wire.nodelist import NodeEntry, NodeList

FEW_CONNECTIONS = 3
TIERS = frozenset({"CUMULUS", "NIMBUS", "STRATUS"})
BLOCK_AHEAD_S = 120
"""A newest block may say to be this much later than it is (miners' clocks)."""
BLOCK_BEHIND_S = 3600
PEERS_OFF_WARN_S = 2.0
PEERS_OFF_FAIL_S = 60.0
SIGNED_WITHIN_S = 300
_START_DAEMON = "start fluxd, or correct chain.daemon_host, chain.daemon_port and chain.daemon_conf"
_START_BENCH = "start fluxbenchd, or correct chain.bench_host and chain.bench_port"
_CLOCK = "set the clock by a time server: systemctl enable --now systemd-timesyncd (or chrony)"


async def daemon(patient: Patient) -> Sequence[Finding]:
    """Reachable, synced, connected."""
    settings = patient.settings.chain
    where = f"{settings.daemon_host}:{settings.daemon_port or patient.conf.rpc_port}"
    try:
        found = await patient.daemon.call("getblockchaininfo", fresh=True)
        info = await patient.daemon.call("getinfo")
    except ChainError as error:
        return [fail("daemon", error.message, error.remedy or _START_DAEMON)]
    if not isinstance(found, dict) or not isinstance(info, dict):
        return [fail("daemon", f"{where} does not answer like fluxd", _START_DAEMON)]
    blocks, headers = _int(found, "blocks"), max(_int(found, "headers"), _int(found, "blocks"))
    evidence = f"{where}, version {info.get('version')}, block {blocks} of {headers}"
    verdicts = []
    if headers - blocks >= settings.synced_within_blocks:
        verdicts.append(fail("daemon", f"{evidence}: not synced", "let it sync, see its debug.log"))
    else:
        verdicts.append(ok("daemon", f"{evidence}, synced"))
    if "connections" in info:
        count = _int(info, "connections")
        remedy = "see that port 16125 is open and that the machine is online"
        said = f"{count} connections to other daemons"
        verdicts.append(
            ok("daemon peers", said) if count >= FEW_CONNECTIONS else warn("daemon peers", said, remedy)
        )
    return verdicts


async def benchmark(patient: Patient) -> Sequence[Finding]:
    """Reachable, passed, new enough."""
    settings, name = patient.settings, "benchmark"
    where = f"{settings.chain.bench_host}:{settings.chain.bench_port}"
    try:
        found = await patient.bench.call("getbenchmarks", fresh=True)
        info = await patient.bench.call("getinfo")
    except ChainError as error:
        if settings.node.address:
            said = f"{error.message}; the address is that of node.address"
            return [warn(name, said, error.remedy or _START_BENCH)]
        return [fail(name, error.message, error.remedy or _START_BENCH)]
    if not isinstance(found, dict):
        return [fail(name, f"{where} does not answer like fluxbenchd", _START_BENCH)]
    status, problem = str(found.get("status") or await _bench_state(patient)), found.get("error")
    version = str(info.get("version", "")) if isinstance(info, dict) else ""
    least = settings.network.minimum_bench_version
    evidence = f"{where}, version {version or 'unknown'}, {status or 'no result'}"
    if not status:
        return [warn(name, f"{where}, says nothing of its result", "see fluxbench-cli getstatus")]
    if status not in TIERS:
        said = f"{evidence}{f': {problem}' if problem else ''}"
        return [fail(name, said, "run the benchmark again: fluxbench-cli restartnodebenchmarks")]
    if version and _numbers(version) < _numbers(least):
        return [fail(name, f"{evidence}: {least} is asked for", "update fluxbenchd")]
    return [ok(name, evidence)]


async def _bench_state(patient: Patient) -> str:
    """What it says of itself when its results do not."""
    try:
        found = await patient.bench.call("getstatus")
    except ChainError:
        return ""
    return str(found.get("benchmarking") or "") if isinstance(found, dict) else ""


async def key(patient: Patient) -> Sequence[Finding]:
    """The node's key, its confirmation, and its entry in the node list."""
    if patient.key is None:
        problem = patient.key_problem
        return [skip("key", "not read") if problem is None else failed_by("key", problem)]
    public = patient.key.public_key
    shown = f"{public[:16]}..., address {patient.key.address}"
    try:
        rows = await patient.daemon.call("viewdeterministiczelnodelist")
        status = await patient.daemon.call("getzelnodestatus", fresh=True)
    except ChainError as error:
        return [skip("key", f"{shown}; the daemon cannot say whether it is listed: {error.message}")]
    nodes = NodeList.from_rpc(rows if isinstance(rows, list) else [])
    entries = dict(nodes.by_pubkey(public))
    found = [_standing(status)]
    if not entries:
        remedy = "start the node with its collateral, or use the key it was started with (node.key_file)"
        return [fail("key", f"{shown}, is not in the list of {len(nodes)} nodes", remedy), *found]
    tiers = ", ".join(f"{address} ({entry.tier})" for address, entry in entries.items())
    return [ok("key", f"{shown}, listed at {tiers}"), *found, *await _address(patient, nodes, entries)]


def _standing(status: Any) -> Finding:
    text = str(status.get("status", "unknown")) if isinstance(status, dict) else "unknown"
    if text == "CONFIRMED":
        return ok("confirmation", text)
    remedy = {
        "STARTED": "wait: it is confirmed by the network within about two hours when the benchmark passes",
        "EXPIRED": "start the node again with its collateral",
        "DOS": "wait until its penalty on the chain is over",
    }.get(text, "start the node with its collateral, and see that the daemon has its key")
    return (warn if text == "STARTED" else fail)("confirmation", text, remedy)


async def _address(patient: Patient, nodes: NodeList, entries: dict[str, NodeEntry]) -> list[Finding]:
    """Own address: what the benchmark sees, as listed, reachable from outside."""
    own = patient.settings.node.address
    if not own:
        try:
            found = await patient.bench.call("getbenchmarks")
        except ChainError:
            return [skip("address", "the benchmark does not tell it")]
        own = str(found.get("ipaddress") or "") if isinstance(found, dict) else ""
    try:
        ip, port = split_address(own)
    except AddressError:
        return [fail("address", f"{own!r} is no address", "see the benchmark, or set node.address")]
    if port != patient.settings.node.api_port:
        said = f"{own} is known to others, the API listens on {patient.settings.node.api_port}"
        return [fail("address", said, "set node.api_port to the port of the address")]
    if not is_routable_ipv4(ip) and not patient.settings.network.allow_private_addresses:
        remedy = "see the router and the benchmark; nodes need a public IPv4 address"
        return [fail("address", f"{own} is not public", remedy)]
    if not any(same_address(own, address) for address in entries):
        said = f"{own}, but this key is listed at {', '.join(entries)}"
        remedy = "wait for the next confirmation if it has just changed, and only one node may use a key"
        return [warn("address", said, remedy)]
    return [ok("address", f"{own}, as listed")]


async def clock(patient: Patient) -> Sequence[Finding]:
    """Without a time server: against the newest block and against peers."""
    now_s = SystemClock().now_ms() / 1000
    evidence: list[str] = []
    try:
        tip = await patient.daemon.call("getbestblockhash", fresh=True)
        header = await patient.daemon.call("getblockheader", [tip])
        behind_s = now_s - float(header["time"])
    except (ChainError, KeyError, TypeError, ValueError):
        behind_s = None
    if behind_s is not None:
        if behind_s < -BLOCK_AHEAD_S:
            said = f"the newest block is {duration(-behind_s)} in the future"
            return [fail("clock", said, _CLOCK)]
        evidence.append(f"the newest block is {duration(behind_s)} old")
    offsets = [
        float(row["remoteClockOffsetMs"]) / 1000
        for row in patient.peers
        if row.get("remoteClockOffsetMs") is not None
    ]
    if offsets:
        off_s = median(offsets)
        said = f"{abs(off_s):.1f} s {'behind' if off_s > 0 else 'ahead of'} {len(offsets)} peers (median)"
        if abs(off_s) >= PEERS_OFF_FAIL_S:
            what = f"{said}; messages older than {SIGNED_WITHIN_S} s are refused"
            return [fail("clock", what, _CLOCK)]
        if abs(off_s) >= PEERS_OFF_WARN_S:
            return [warn("clock", said, _CLOCK)]
        evidence.append(said)
    if not evidence:
        return [skip("clock", "nothing to compare it with: no daemon, no running node")]
    if not offsets and behind_s is not None and behind_s > BLOCK_BEHIND_S:
        return [warn("clock", f"{evidence[0]}: the clock is ahead, or the daemon stands", _CLOCK)]
    return [ok("clock", ", ".join(evidence))]


def _int(found: dict[str, Any], name: str) -> int:
    value = found.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
