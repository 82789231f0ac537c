"""permessage-deflate: the negotiation of wire.md §1 and an inflate that cannot be bombed."""

from __future__ import annotations

import json
import random
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, TextMessage

from trionode.errors import WireError
from trionode.peers.deflate import (
    EPHEMERAL_OFFER,
    OFFER,
    Agreement,
    MessageGuard,
    accept_answer,
    answer_offer,
    compress,
)
from trionode.peers.wsframes import data_frame

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "wire.json").read_text())["ws_handshake"]
KEY = b"\x01\x02\x03\x04"


def server(limit: int, agreement: Agreement | None) -> Connection:
    return Connection(ConnectionType.SERVER, [MessageGuard(limit, agreement)])


def feed(connection: Connection, data: bytes, step: int = 65536) -> list[object]:
    events: list[object] = []
    for start in range(0, len(data), step):
        connection.receive_data(data[start : start + step])
        events.extend(connection.events())
    return events


def packed_frame(payload: bytes, *, text: bool = False) -> bytes:
    return data_frame(compress(payload, 15), text=text, compressed=True, mask_key=KEY)


@pytest.mark.parametrize("case", VECTORS["server_extension_answers"], ids=lambda case: str(case["offer"]))
def test_server_answers_as_recorded(case: dict[str, str | None]) -> None:
    answer = answer_offer(case["offer"])
    assert (answer[0] if answer is not None else None) == case["answer"]


@pytest.mark.parametrize(
    ("offered", "answered"),
    [
        ("server_max_window_bits=10", "server_max_window_bits=10; {0}; {1}"),
        ("client_max_window_bits=12; {0}", "client_max_window_bits=12; {0}; {1}"),
        ("{1}", "{1}; {0}"),
        ("{0}; server_max_window_bits=11; client_max_window_bits", "{0}; server_max_window_bits=11; {1}"),
    ],
)
def test_answer_keeps_the_order_of_the_offer(offered: str, answered: str) -> None:
    flags = ("server_no_context_takeover", "client_no_context_takeover")
    answer = answer_offer("permessage-deflate; " + offered.format(*flags))
    assert answer is not None
    assert answer[0] == "permessage-deflate; " + answered.format(*flags)


def test_offers_are_as_recorded() -> None:
    assert VECTORS["outbound_request"]["headers"]["Sec-WebSocket-Extensions"] == OFFER
    assert VECTORS["outbound_request"]["ephemeral_extensions"] == EPHEMERAL_OFFER


def test_first_offer_that_can_be_met_wins() -> None:
    answer = answer_offer(
        "x-other, permessage-deflate; bogus=1, permessage-deflate; server_max_window_bits=10"
    )
    assert answer is not None
    assert "; server_max_window_bits=10; " in answer[0]
    assert answer[1].send_window_bits == 10


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate; server_max_window_bits=abc",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; server_max_window_bits=" + "9" * 5000,
        "x-webkit-deflate-frame",
        "",
    ],
)
def test_offers_nobody_can_meet_are_declined(offer: str) -> None:
    assert answer_offer(offer) is None


def test_an_8_bit_window_is_agreed_but_never_compressed_for() -> None:
    answer = answer_offer("permessage-deflate; server_max_window_bits=8")
    assert answer is not None
    assert answer[1].send_window_bits == 0


def test_what_a_server_answers_is_checked_against_the_offer() -> None:
    both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    assert accept_answer(None, OFFER) is None
    assert accept_answer(both, OFFER) == Agreement()
    assert accept_answer(both + "; client_max_window_bits=12", OFFER) == Agreement(send_window_bits=12)
    assert accept_answer("permessage-deflate", EPHEMERAL_OFFER) == Agreement(remote_keeps_context=True)
    for bad in (
        "permessage-deflate",
        "x-unknown",
        both + ", " + both,
        both + "; odd",
        "permessage-deflate; client_max_window_bits",
    ):
        with pytest.raises(WireError):
            accept_answer(bad, OFFER)


@given(st.binary(max_size=3000), st.booleans(), st.integers(1, 200))
def test_what_is_compressed_is_received(payload: bytes, cut: bool, step: int) -> None:
    events = feed(server(4000, Agreement()), packed_frame(payload), step if cut else 65536)
    received = b"".join(event.data for event in events if isinstance(event, BytesMessage))
    assert received == payload
    assert isinstance(events[-1], BytesMessage)
    assert events[-1].message_finished


def test_a_peer_that_keeps_its_context_is_understood() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    link = server(1000, Agreement(remote_keeps_context=True))
    for _ in range(3):
        packed = (packer.compress(b"the same text again") + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
        [event] = feed(link, data_frame(packed, text=True, compressed=True, mask_key=KEY))
        assert isinstance(event, TextMessage)
        assert event.data == "the same text again"


@pytest.mark.parametrize("step", [65536, 4096, 1])
@pytest.mark.parametrize("size", [1000, 1001])
def test_the_cap_is_exact(size: int, step: int) -> None:
    for frame in (
        packed_frame(b"a" * size),
        data_frame(b"a" * size, text=False, compressed=False, mask_key=KEY),
    ):
        events = feed(server(1000, Agreement()), frame, step)
        if size == 1000:
            assert not any(isinstance(event, CloseConnection) for event in events)
        else:
            assert isinstance(events[-1], CloseConnection)
            assert events[-1].code == 1009


def test_the_cap_counts_fragments_together() -> None:
    first = bytearray(data_frame(b"a" * 600, text=False, compressed=False, mask_key=KEY))
    first[0] &= 0x7F
    second = bytearray(data_frame(b"a" * 600, text=False, compressed=False, mask_key=KEY))
    second[0] = 0x80
    events = feed(server(1000, None), bytes(first + second))
    assert isinstance(events[-1], CloseConnection)
    assert events[-1].code == 1009


def test_a_bomb_costs_at_most_the_cap() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush(zlib.Z_SYNC_FLUSH)
    frame = data_frame(bomb[:-4], text=False, compressed=True, mask_key=KEY)
    limit = 1 << 20
    tracemalloc.start()
    try:
        events = feed(server(limit, Agreement()), frame)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(events[-1], CloseConnection)
    assert events[-1].code == 1009
    assert peak < 6 * limit  # the parts, and the copies wsproto makes of one step


def test_a_giant_length_is_refused_by_its_header() -> None:
    events = feed(server(1000, None), b"\x82\xff" + (1 << 40).to_bytes(8, "big") + KEY)
    assert isinstance(events[-1], CloseConnection)
    assert events[-1].code == 1009


def test_data_behind_the_end_of_the_stream_is_refused_and_not_hoarded() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    ended = packer.compress(b"all") + packer.flush(zlib.Z_FINISH)
    [fine] = feed(server(1000, Agreement()), data_frame(ended, text=False, compressed=True, mask_key=KEY))
    assert isinstance(fine, BytesMessage)
    assert fine.data == b"all"
    events = feed(
        server(1 << 20, Agreement()),
        data_frame(ended + bytes(5000), text=False, compressed=True, mask_key=KEY),
        100,
    )
    assert isinstance(events[-1], CloseConnection)
    assert events[-1].code == 1007


def test_broken_streams_and_wrong_bits_close_with_the_right_code() -> None:
    garbage = random.Random(5).randbytes(300)
    [event] = feed(server(1000, Agreement()), data_frame(garbage, text=False, compressed=True, mask_key=KEY))
    assert isinstance(event, CloseConnection)
    assert event.code == 1007
    [event] = feed(server(1000, None), packed_frame(b"not agreed"))
    assert isinstance(event, CloseConnection)
    assert event.code == 1002
    ping_with_rsv1 = b"\xc9\x80" + KEY
    [event] = feed(server(1000, Agreement()), ping_with_rsv1)
    assert isinstance(event, CloseConnection)
    assert event.code == 1002
