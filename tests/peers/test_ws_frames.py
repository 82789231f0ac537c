"""Outgoing frames: what we encode is what wsproto reads, and each form is encoded once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, TextMessage
from wsproto.frame_protocol import XorMaskerSimple

from trionode.peers.deflate import Agreement, MessageGuard
from trionode.peers.wsframes import Prepared, mask, utf8

THRESHOLD = 128


def read(frame: bytes, *, by_client: bool, agreement: Agreement | None) -> str | bytes:
    role = ConnectionType.CLIENT if by_client else ConnectionType.SERVER
    connection = Connection(role, [MessageGuard(1 << 24, agreement)])
    connection.receive_data(frame)
    events = list(connection.events())
    assert all(isinstance(event, TextMessage | BytesMessage) for event in events)
    assert events[-1].message_finished
    parts = [event.data for event in events]
    return "".join(parts) if isinstance(parts[0], str) else b"".join(parts)


@given(st.one_of(st.text(max_size=400), st.binary(max_size=400)), st.booleans(), st.sampled_from([0, 9, 15]))
def test_frames_are_read_back(message: str | bytes, client: bool, window_bits: int) -> None:
    frame = Prepared(message, THRESHOLD).frame(client=client, window_bits=window_bits)
    assert read(frame, by_client=not client, agreement=Agreement() if window_bits else None) == message


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 300_000])
@pytest.mark.parametrize("client", [True, False])
def test_every_length_form(size: int, client: bool) -> None:
    message = bytes(index % 251 for index in range(size))
    frame = Prepared(message, THRESHOLD).frame(client=client, window_bits=0)
    assert read(frame, by_client=not client, agreement=None) == message


@given(st.binary(max_size=70), st.binary(min_size=4, max_size=4))
def test_masking_is_wsprotos(payload: bytes, key: bytes) -> None:
    assert mask(payload, key) == XorMaskerSimple(key).process(bytearray(payload))


def test_short_messages_and_hopeless_ones_stay_uncompressed() -> None:
    compressed_bit = 0x40
    assert not Prepared("a" * 127, THRESHOLD).frame(client=False, window_bits=15)[0] & compressed_bit
    assert Prepared("a" * 128, THRESHOLD).frame(client=False, window_bits=15)[0] & compressed_bit
    # the threshold counts bytes, not characters
    assert Prepared("é" * 64, THRESHOLD).frame(client=False, window_bits=15)[0] & compressed_bit
    noise = bytes((index * 7919 + index // 256 * 104729) % 256 for index in range(128))
    noisy = Prepared(noise, THRESHOLD)
    frame = noisy.frame(client=False, window_bits=15)
    assert len(frame) <= len(noise) + 4


def test_a_form_is_encoded_once_and_masked_anew_for_each_message() -> None:
    prepared = Prepared("x" * 500, THRESHOLD)
    first = prepared.frame(client=True, window_bits=15)
    assert prepared.frame(client=True, window_bits=15) is first
    assert prepared.frame(client=False, window_bits=15) is not first
    # 32 random bits: equal keys in ten messages would be a broken generator
    keys = {Prepared("short", THRESHOLD).frame(client=True, window_bits=0)[2:6] for _ in range(10)}
    assert len(keys) > 1


def test_lone_surrogates_travel_as_the_replacement_character() -> None:
    assert utf8("a\ud800b") == "a\ufffdb".encode()
    assert utf8("\ud83d\ude00") == "😀".encode()
    assert Prepared("é", THRESHOLD).size_bytes == 2
