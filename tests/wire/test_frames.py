"""Binary frames both ways, malformed ones, and fuzz (docs/spec/wire.md §6)."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trionode.errors import WireError
from trionode.wire import frames
from trionode.wire.frames import (
    Frame,
    HashPresent,
    HashRequest,
    Nak,
    PeerExchange,
    PeerUpdate,
    SyncRequest,
    decode_frame,
    encode_frame,
    sync_request,
)
from trionode.wire.keys import NodeKey

KEYS = (NodeKey.generate(random.Random(1)), NodeKey.generate(random.Random(2), compressed=True))

hashes = st.binary(min_size=20, max_size=20).map(bytes.hex)
octets = st.integers(0, 255)
peers = st.builds(
    lambda a, b, c, d, p: f"{a}.{b}.{c}.{d}:{p}", octets, octets, octets, octets, st.integers(0, 65535)
)
peer_lists = st.lists(peers, max_size=8).map(tuple)
times = st.integers(0, 2**53)
sync_requests = st.builds(
    SyncRequest,
    st.sampled_from(frames.SYNC_KINDS),
    times,
    times,
    st.binary(min_size=1, max_size=80).map(bytes.hex),
    st.just(KEYS[0].sign("x")),
)
all_frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(HashPresent, hashes),
    st.builds(HashRequest, hashes),
    st.builds(Nak, hashes, octets),
    st.builds(PeerExchange, peer_lists, peer_lists),
    st.builds(PeerUpdate, peer_lists, peer_lists, peer_lists),
    sync_requests,
)


@given(all_frames, st.binary(max_size=4))
def test_round_trip_and_trailing_bytes(frame: Frame, rest: bytes) -> None:
    raw = encode_frame(frame)
    assert decode_frame(raw) == frame
    assert decode_frame(raw + rest) == frame


@given(all_frames, st.data())
def test_no_shorter_frame_says_the_same(frame: Frame, data: st.DataObject) -> None:
    raw = encode_frame(frame)
    shorter = decode_frame(raw[: data.draw(st.integers(0, len(raw) - 1))])
    if isinstance(frame, PeerExchange | PeerUpdate):
        assert shorter in (None, type(frame)())
    else:
        assert shorter is None


@given(
    st.one_of(
        st.binary(max_size=200),
        st.tuples(st.sampled_from([1, 2, 3, 16, 17, 32, 33, 34, 35]), st.binary(max_size=200)).map(
            lambda p: bytes([p[0]]) + p[1]
        ),
    )
)
@example(b"")
@example(b"\x10\xff\xff\xff\xff")
@example(b"\x11" + b"\xff" * 6)
@example(b"\x20" + bytes(16) + b"\xff")
@example(b"\x20" + bytes(16) + b"\x01\xaa\xff")
def test_reading_never_raises(data: bytes) -> None:
    frame = decode_frame(data)
    if frame is None:
        return
    again = decode_frame(encode_frame(frame))
    assert again == frame


@pytest.mark.parametrize("op", sorted(set(range(256)) - {1, 2, 3, 16, 17, 32, 33, 34, 35}))
def test_unknown_opcodes_are_ignored(op: int) -> None:
    assert decode_frame(bytes([op]) + bytes(200)) is None


@pytest.mark.parametrize(
    "frame",
    [
        HashPresent("zz" * 20),
        HashPresent("ab"),
        HashRequest("ab " * 13 + "c"),
        Nak("00" * 20, 256),
        Nak("00" * 20, -1),
        Nak("", 0),
        PeerExchange(("1.2.3.4",), ()),
        PeerExchange(("1.2.3.4:65536",), ()),
        PeerExchange(("1.2.3.256:1",), ()),
        PeerExchange(("1.2.3:1",), ()),
        PeerExchange(("::1:80",), ()),
        PeerUpdate((), (), ("host:1",)),
        PeerExchange(("1.2.3.4:1",) * 65536, ()),
        SyncRequest(0x24, 0, 0, "02", KEYS[0].sign("x")),
        SyncRequest(0x20, -1, 0, "02", KEYS[0].sign("x")),
        SyncRequest(0x20, 0, 2**64, "02", KEYS[0].sign("x")),
        SyncRequest(0x20, 0, 0, "", KEYS[0].sign("x")),
        SyncRequest(0x20, 0, 0, "zz", KEYS[0].sign("x")),
        SyncRequest(0x20, 0, 0, "02", ""),
        SyncRequest(0x20, 0, 0, "02" * 256, KEYS[0].sign("x")),
    ],
)
def test_values_without_a_binary_form_are_refused(frame: Frame) -> None:
    with pytest.raises(WireError) as caught:
        encode_frame(frame)
    assert caught.value.remedy


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("kind", frames.SYNC_KINDS)
def test_sync_request_is_signed_over_its_preimage(kind: int, key: NodeKey) -> None:
    request = sync_request(kind, 5, 1_700_000_000_000, key)
    assert request.preimage == f"{kind}51700000000000"
    assert request.is_signed()
    raw = encode_frame(request)
    assert len(raw) == 84 + len(bytes.fromhex(key.public_key))
    received = decode_frame(raw)
    assert received == request
    forged: Any = SyncRequest(kind, 6, request.request_ms, request.public_key, request.signature)
    assert not forged.is_signed()


def test_sync_kinds_only() -> None:
    with pytest.raises(WireError):
        sync_request(0x10, 0, 0, KEYS[0])


def test_times_beyond_doubles_are_rounded_as_by_everybody_else() -> None:
    raw = b"\x20" + (2**64 - 1).to_bytes(8, "big") + (2**53 + 1).to_bytes(8, "big") + b"\x01\x02\x01\x03"
    request = decode_frame(raw)
    assert isinstance(request, SyncRequest)
    assert request.preimage == "32184467440737095520009007199254740992"
    with pytest.raises(WireError, match="64 bits"):
        encode_frame(request)
