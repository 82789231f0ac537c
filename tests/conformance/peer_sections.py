"""Section runners of wire.json for what lives in trionode.peers (docs/spec/wire.md §1-§6)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from runner import Context, Mismatch, Outcome, each, expect, fields, one, register

from trionode.config.tree import NetworkSettings, PeerSettings
from trionode.errors import WireError
from trionode.peers import admission, deflate
from trionode.peers.discovery import Target, deterministic_inbound, deterministic_outbound
from trionode.peers.exchange import Topology
from trionode.peers.handshake import dial_request, read_hello
from trionode.peers.link import CAPABILITIES, Hello
from trionode.peers.ratelimit import RateLimiter
from trionode.wire.address import split_address
from trionode.wire.frames import (
    Frame,
    HashPresent,
    HashRequest,
    Nak,
    PeerExchange,
    PeerUpdate,
    SyncRequest,
    decode_frame,
)

PEERS = PeerSettings()
NETWORK = NetworkSettings()


# ---- §6 what a binary frame sets off -----------------------------------------------------------------


def listed(key: str) -> bool:
    try:
        ip, port = split_address(key)
    except WireError:  # port 0
        return False
    return port in NETWORK.allowed_api_ports and admission.address_allowed(ip, allow_private=False)


CALL_NAMES: dict[type[Any], str] = {
    HashPresent: "present",
    HashRequest: "request",
    Nak: "nak",
    SyncRequest: "",
}


def check_calls(frame: Frame | None, calls: list[Any]) -> None:
    """The handlers the original called: none for ignored frames, one with the frame's values else."""
    if frame is None or isinstance(frame, PeerExchange | PeerUpdate):
        expect("handler calls", [], calls)
        return
    if len(calls) != 1 or not isinstance(calls[0], list) or not calls[0]:
        raise Mismatch(f"handler calls: ours one for {frame}, file {calls}")
    name, *values = calls[0]
    if CALL_NAMES[type(frame)] not in str(name).lower():
        raise Mismatch(f"handler: ours for {frame}, file {name}")
    if isinstance(frame, Nak):
        expect("NAK", [frame.hash, frame.reason], values)
    elif not isinstance(frame, SyncRequest):
        expect("hash", [frame.hash], values)


def check_topology(entry: dict[str, list[str]] | None, expected: Any) -> None:
    if expected is None or entry is None:
        expect("topology", entry, expected)
        return
    fields(expected, "", "outbound inbound outbound_count inbound_count total total_count last first")
    both = entry["outbound"] + entry["inbound"]
    ours = {
        **entry,
        "outbound_count": len(entry["outbound"]),
        "inbound_count": len(entry["inbound"]),
        "total": len(both),
        "total_count": len(both),
        "first": both[0] if both else None,
        "last": (entry["outbound"] or entry["inbound"] or [None])[-1],
    }
    for name, value in expected.items():
        expect(f"topology {name}", ours[name], value)


@register("wire", "binary_dispatch")
def binary_dispatch(section: Any, context: Context) -> Iterator[Outcome]:
    topology = Topology(listed)

    def check(case: Any) -> None:
        fields(case, "hex sender_has_peerExchange js_handler_calls js_topology_after", "name note")
        capable = case["sender_has_peerExchange"]
        sender = "capable" if capable else "incapable"
        frame = decode_frame(bytes.fromhex(case["hex"]))
        check_calls(frame, case["js_handler_calls"])
        if isinstance(frame, PeerExchange) and capable:
            topology.exchange(sender, frame)
        elif isinstance(frame, PeerUpdate) and capable:
            topology.update(sender, frame)
        elif case["js_topology_after"] is None and capable:
            return  # a frame that has nothing to do with topology
        check_topology(topology.snapshot().get(sender), case["js_topology_after"])

    yield from each("binary_dispatch", section, check)


# ---- §3 discovery ------------------------------------------------------------------------------------


@register("wire", "discovery")
def discovery(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "my_address sorted js_dialled js_addoutgoing_requests", "name note")
        own = case["my_address"]
        addresses = [address for address in case["sorted"] if address]
        own_port = split_address(own)[1]
        dialled = [
            f"ws://{target.ip}:{target.port}/ws/flux/{own_port}"
            for target in unconnected(deterministic_outbound(addresses, own), set())
        ]
        invited = [
            f"http://{target.ip}:{target.port}/flux/addoutgoingpeer/{own}"
            for target in deterministic_inbound(addresses, own)
        ]
        expect("dialled", dialled, case["js_dialled"])
        expect("asked to dial us", invited, case["js_addoutgoing_requests"])

    return each("discovery", section, check)


def unconnected(targets: list[Target], seen: set[str]) -> list[Target]:
    """A node met twice in one walk is connected or pending the second time."""
    return [target for target in targets if not (target.key in seen or seen.add(target.key))]  # type: ignore[func-returns-value]


# ---- §2, §5 limits -----------------------------------------------------------------------------------


@register("wire", "inbound_cap")
def inbound_cap(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "nodes max_con highest_inbound_count_reachable", "name note")
        limit = admission.max_inbound(case["nodes"], PEERS.min_inbound)
        expect("maxCon", float(limit), float(case["max_con"]))
        connected = 0
        while (
            admission.check_inbound(
                accepting=True,
                inbound_count=connected,
                max_connections=limit,
                remote_ip="203.0.113.5",
                allow_private=False,
            )
            is None
        ):
            connected += 1
        expect("inbound reachable", connected, case["highest_inbound_count_reachable"])

    return each("inbound_cap", section, check, ("name", "nodes"))


_BURST = re.compile(r"burst_of_(\d+)_in_(first|a_later)_second_accepted")


@register("wire", "rate_limit")
def rate_limit(section: Any, context: Context) -> Iterator[Outcome]:
    fields(section, "limit observed", "per_key excess note")
    yield one(
        "rate_limit limit", lambda limit: expect("limit", PEERS.rate_limit_frames, limit), section["limit"]
    )

    def burst(observed: Any) -> None:
        name, accepted = observed
        told = _BURST.fullmatch(name)
        if told is None:
            raise Mismatch(f"unknown observation {name!r}")
        limiter = RateLimiter(
            section["limit"], PEERS.rate_limit_interval_s, PEERS.rate_limit_idle_s, PEERS.rate_limit_keys
        )
        start_s = 100.0
        if told[2] == "a_later":
            for number in range(300):
                limiter.allow("203.0.113.5:16127", start_s + number / 1000)
            start_s += 1.5
        passed = sum(limiter.allow("203.0.113.5:16127", start_s + n / 1e6) for n in range(int(told[1])))
        expect("accepted", passed, accepted)
        expect("another key", limiter.allow("203.0.113.5:16137", start_s), True)

    for observed in section["observed"].items():
        yield one(f"rate_limit {observed[0]}", burst, observed)


# ---- §1 handshake ------------------------------------------------------------------------------------


def _dialled(hello: Hello, *, ephemeral: bool = False, own_port: int = 16127) -> tuple[str, dict[str, str]]:
    head, _ = dial_request(
        "203.0.113.5", 16127, hello, own_port=own_port, ephemeral=ephemeral, nonce=bytes(16)
    )
    line, *rest = head.decode().rstrip("\r\n").split("\r\n")
    return line, dict(header.split(": ", 1) for header in rest)


@register("wire", "ws_handshake")
def ws_handshake(section: Any, context: Context) -> Iterator[Outcome]:
    fields(section, "outbound_request server_extension_answers")
    request = fields(section["outbound_request"], "request_line headers", "ephemeral_extensions note")
    hello = Hello(frozenset(CAPABILITIES), "8.13.0", 4, -7, reconnect=True)
    _, ours = _dialled(hello)

    def request_line(text: Any) -> None:
        told = re.fullmatch(r"GET /ws/flux/(\d+) HTTP/1\.1", text)
        if told is None:
            raise Mismatch(f"unknown request line {text!r}")
        expect("request line", _dialled(hello, own_port=int(told[1]))[0], text)

    def header(pair: Any) -> None:
        name, text = pair
        if name not in ours:
            raise Mismatch(f"we send no {name}")
        if name == "X-Flux-Version":
            expect(name, _dialled(Hello(version=text))[1][name], text)
        elif name == "X-Flux-Uptime":
            expect(name, _dialled(Hello(uptime_s=int(text)))[1][name], text)
        elif name == "X-Flux-Clock-Offset" and re.fullmatch(r"-?\d+", text):
            expect(name, _dialled(Hello(clock_offset_ms=int(text)))[1][name], text)
        elif "(" in text:  # described in words: a value, then when it is sent
            optional = _dialled(Hello(frozenset(CAPABILITIES), "8.13.0", 4))[1]
            expect(f"{name} sent always", name in optional, False)
            if text.startswith("true"):
                expect(name, ours[name], "true")
            elif "signed integer" in text:
                expect(name, ours[name], "-7")
            else:
                raise Mismatch(f"unknown description {text!r}")
        else:
            expect(name, ours[name], text)
        read_back = read_hello([(key.encode(), value.encode()) for key, value in ours.items()])
        expect("hello read back", read_back, hello)

    def ephemeral(text: Any) -> None:
        expect("offer", _dialled(hello, ephemeral=True)[1]["Sec-WebSocket-Extensions"], text)

    def answer(case: Any) -> None:
        fields(case, "offer answer", "note")
        answered = deflate.answer_offer(case["offer"])
        expect("answer", None if answered is None else answered[0], case["answer"])

    yield one("ws_handshake request_line", request_line, request["request_line"])
    for pair in request["headers"].items():
        yield one(f"ws_handshake {pair[0]}", header, pair)
    if "ephemeral_extensions" in request:
        yield one("ws_handshake ephemeral_extensions", ephemeral, request["ephemeral_extensions"])
    yield from each("ws_handshake answers", section["server_extension_answers"], answer, ("offer",))
