"""Who we are connected to (docs/spec/api.md §6)."""

from __future__ import annotations

from typing import Any

from trionode.api.answers import Answer, ApiFailure, data, success
from trionode.api.call import Call
from trionode.api.levels import Level
from trionode.api.route import (
    BOOLEAN,
    INTEGER,
    MESSAGE,
    NUMBER,
    NUMBER_OR_NULL,
    STRING,
    TEXT_OR_NULL,
    Param,
    Route,
    list_of,
    object_of,
)
from trionode.errors import PeerError, WireError
from trionode.peers.discovery import Source
from trionode.peers.table import HISTORY_RECORDS, HistoryRecord
from trionode.wire.address import is_ipv4, split_address

PEER = object_of(
    ip=STRING,
    port=STRING,
    direction={"type": "string", "enum": ["outbound", "inbound"]},
    latency=NUMBER_OR_NULL,
    missedPongs=INTEGER,
    lastPingTime=NUMBER_OR_NULL,
    lastPongTime=NUMBER_OR_NULL,
    connectedAt=NUMBER,
    uptime=NUMBER,
    source=TEXT_OR_NULL,
    isAlive=BOOLEAN,
    badMessages=INTEGER,
    capabilities=list_of(STRING),
    remoteClockOffsetMs=NUMBER_OR_NULL,
    lastTransmissionDelay=NUMBER_OR_NULL,
    messagesReceived=INTEGER,
    messagesSent=INTEGER,
    bytesReceived=INTEGER,
    bytesSent=INTEGER,
    remoteVersion=TEXT_OR_NULL,
    reconnects=INTEGER,
)
UNSTABLE = object_of(ip=STRING, port=STRING, disconnects=INTEGER, firstDisconnect=NUMBER)
HISTORY = {
    "type": "object",
    "required": ["timestamp", "event", "ip", "port", "direction", "source"],
}
TOPOLOGY = object_of(reporters=INTEGER, knownPeers=INTEGER, topology={"type": "object"})


async def connected_peers(call: Call) -> Answer:
    return data([row["ip"] for row in call.context.peers.table.rows("outbound")])


async def incoming_connections(call: Call) -> Answer:
    return data([row["ip"] for row in call.context.peers.table.rows("inbound")])


async def connected_peers_info(call: Call) -> Answer:
    wanted = ("ip", "port", "latency", "lastPingTime")
    return data([{name: row[name] for name in wanted} for row in call.context.peers.table.rows("outbound")])


async def incoming_connections_info(call: Call) -> Answer:
    return data([{"ip": row["ip"], "port": row["port"]} for row in call.context.peers.table.rows("inbound")])


async def peers(call: Call) -> Answer:
    """All peers, those of one direction, or the one at `ip:port`."""
    table = call.context.peers.table
    wanted = call.text("filter")
    if wanted in ("outbound", "inbound"):
        return data(table.rows("outbound" if wanted == "outbound" else "inbound"))
    if ":" not in wanted:
        return data(table.rows())
    if wanted not in table:
        raise ApiFailure(f"Peer {wanted} is not connected")
    return data(table.rows(key=wanted))


async def unstable_nodes(call: Call) -> Answer:
    return data(call.context.peers.table.unstable())


async def peer_history(call: Call) -> Answer:
    """Connects and disconnects, the newest first, filtered."""
    wanted_ip, wanted_event, wanted_code = call.text("ip"), call.text("event"), call.text("code")
    limit = call.number("limit", default=HISTORY_RECORDS, low=1, high=HISTORY_RECORDS)
    since_ms = call.number("since", default=0, low=0, high=10**15 - 1)
    found: list[dict[str, Any]] = []
    for record in reversed(list(call.context.peers.table.history)):
        if record.at_ms <= since_ms or len(found) == limit:
            break
        here = wanted_ip in ("", record.ip, f"{record.ip}:{record.port}")
        code = "" if record.code is None else str(record.code)
        if here and wanted_event in ("", record.event) and wanted_code in ("", code):
            found.append(_history_row(record))
    return data(found)


def _history_row(record: HistoryRecord) -> dict[str, Any]:
    row: dict[str, Any] = {
        "timestamp": record.at_ms,
        "event": record.event,
        "ip": record.ip,
        "port": record.port,
        "direction": record.direction,
        "source": record.source,
    }
    if record.event == "disconnect":
        row.update(code=record.code, reason=record.reason)
    return row


async def topology(call: Call) -> Answer:
    """What peers say of their own links; diagnostic only, nothing is decided by it."""
    reports = call.context.peers.topology.snapshot()
    known = {key for report in reports.values() for keys in report.values() for key in keys}
    return data({"reporters": len(reports), "knownPeers": len(known), "topology": reports})


async def check_communication(call: Call) -> Answer:
    """Enough peers, at enough different addresses?"""
    table, needed = call.context.peers.table, call.context.settings.peers
    checks = (
        ("outbound connections", table.outbound, needed.min_outbound),
        ("inbound connections", table.inbound, needed.min_inbound),
        ("different outbound addresses", table.distinct_ips("outbound"), needed.min_unique_outbound_ips),
        ("different inbound addresses", table.distinct_ips("inbound"), needed.min_unique_inbound_ips),
    )
    for what, count, least in checks:
        if count < least:
            raise ApiFailure(f"Not enough {what}: {count} of at least {least}")
    return success("Communication to the Flux network is properly established")


async def add_outgoing_peer(call: Call) -> Answer:
    """A neighbour asks us to dial it; the peer service decides (wire.md §3)."""
    return dialled(call, source_ip=call.remote_ip, source="deterministic")


def dialled(call: Call, *, source_ip: str | None, source: Source) -> Answer:
    """Dial the node of the parameter; a refusal becomes an error message."""
    ip, port = target_of(call.text("ip"))
    try:
        return success(call.context.peers.add_outgoing(ip, port, source_ip=source_ip, source=source))
    except PeerError as error:
        raise ApiFailure(error.message) from error


def target_of(text: str) -> tuple[str, int]:
    """(ip, port) of an `ip[:port]` parameter; raises ApiFailure when it is missing or malformed."""
    if not text:
        raise ApiFailure("No IP address specified.")
    try:
        ip, port = split_address(text)
    except WireError as error:
        raise ApiFailure(f"Invalid ip: {error.message}") from error
    if not is_ipv4(ip):
        raise ApiFailure(f"Invalid ip: {text[:60]}")
    return ip, port


IP = Param("ip", "ip or ip:port, port 16127 if absent", required=True)

ROUTES = (
    Route(
        "/flux/connectedpeers",
        connected_peers,
        "Addresses of outbound peers",
        "peers",
        cache_s=30,
        result=list_of(STRING),
    ),
    Route(
        "/flux/incomingconnections",
        incoming_connections,
        "Addresses of inbound peers",
        "peers",
        cache_s=30,
        result=list_of(STRING),
    ),
    Route(
        "/flux/connectedpeersinfo",
        connected_peers_info,
        "Outbound peers with latency",
        "peers",
        cache_s=30,
        result=list_of(
            object_of(ip=STRING, port=STRING, latency=NUMBER_OR_NULL, lastPingTime=NUMBER_OR_NULL)
        ),
    ),
    Route(
        "/flux/incomingconnectionsinfo",
        incoming_connections_info,
        "Inbound peers",
        "peers",
        cache_s=30,
        result=list_of(object_of(ip=STRING, port=STRING)),
    ),
    Route(
        "/flux/peers",
        peers,
        "Live peers with everything known of them",
        "peers",
        cache_s=30,
        params=(Param("filter", "outbound, inbound or ip:port; other texts mean all"),),
        result=list_of(PEER),
    ),
    Route(
        "/flux/unstablenodes",
        unstable_nodes,
        "Nodes with 5 or more drops in 2 h",
        "peers",
        cache_s=30,
        result=list_of(UNSTABLE),
    ),
    Route(
        "/flux/peerhistory",
        peer_history,
        "The last connects and disconnects, newest first",
        "peers",
        level=Level.ADMIN_OR_TEAM,
        cache_s=5,
        params=(
            Param("ip", "Only of this ip or ip:port", query_only=True),
            Param("code", "Only disconnects with this close code", query_only=True),
            Param("event", "connect or disconnect", query_only=True),
            Param("limit", "At most so many", kind="integer", query_only=True),
            Param("since", "Only after this time in ms", kind="integer", query_only=True),
        ),
        result=list_of(HISTORY),
    ),
    Route("/flux/topology", topology, "Links as reported by peers", "peers", cache_s=5, result=TOPOLOGY),
    Route(
        "/flux/checkcommunication",
        check_communication,
        "Enough peers both ways?",
        "peers",
        result=MESSAGE,
    ),
    Route(
        "/flux/addoutgoingpeer",
        add_outgoing_peer,
        "Ask this node to open a link to the caller",
        "peers",
        params=(IP,),
        result=MESSAGE,
    ),
)
