"""Text messages: prefix, body, query strings, JSON forms of frames (docs/spec/wire.md §5)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.errors import WireError
from trionode.wire.frames import HashPresent, HashRequest, Nak, PeerExchange, PeerUpdate, SyncRequest
from trionode.wire.jsjson import parse
from trionode.wire.querytext import parse_query
from trionode.wire.textframe import (
    classify,
    frame_text,
    parse_body,
    parse_value,
    split_timestamp,
    with_timestamp,
)

HASH = "0e511e2106851b6a8239a00234cc742d32ce8f02"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("T1700000000000|{}", (1_700_000_000_000, "{}")),
        ("T1|", (1, "")),
        ("T12345678901234|x", (12_345_678_901_234, "x")),
        ("T123456789012345|x", (None, "T123456789012345|x")),
        ("T 5|x", (5, "x")),
        ("T0x10|x", (16, "x")),
        ("T1e3|x", (1000, "x")),
        ("T1.5|x", (1, "x")),
        ("TInfinity|x", (None, "x")),
        ("T0|x", (None, "T0|x")),
        ("T-5|x", (None, "T-5|x")),
        ("T|x", (None, "T|x")),
        ("Tx1|x", (None, "Tx1|x")),
        ("T5", (None, "T5")),
        ("t5|x", (None, "t5|x")),
        ("", (None, "")),
        ("T5|T6|x", (5, "T6|x")),
    ],
)
def test_timestamp_prefix(raw: str, expected: tuple[int | None, str]) -> None:
    assert split_timestamp(raw) == expected


@given(st.text(), st.integers(1, 99_999_999_999_999))
def test_prefix_round_trip(text: str, now_ms: int) -> None:
    assert split_timestamp(with_timestamp(text, now_ms)) == (now_ms, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("null", {}),
        ("5", {}),
        ('"str"', {}),
        ("true", {}),
        ("", {}),
        ("[]", []),
        ('{"a":1}', {"a": 1}),
        ("a=1&b=2", {"a": "1", "b": "2"}),
        ("a", {"a": ""}),
        ("a=1&a=2&a=3", {"a": ["1", "2", "3"]}),
        ("a[]=1&a[]=2", {"a": ["1", "2"]}),
        ("a[1]=y&a[0]=x", {"a": ["x", "y"]}),
        ("a[21]=x", {"a": {"21": "x"}}),
        ("data[type]=t&data[ip]=1.2.3.4", {"data": {"type": "t", "ip": "1.2.3.4"}}),
        ("a[b][c][d][e][f][g]=x", {"a": {"b": {"c": {"d": {"e": {"f": {"[g]": "x"}}}}}}}),
        ("a+b=c%20d", {"a b": "c d"}),
        ("a=%zz", {"a": "%zz"}),
        ("a=%ff", {"a": "%ff"}),
        ("=x&&&", {}),
        ("__proto__=1&toString=2&a[__proto__]=3&ok=1", {"ok": "1"}),
        ("2=b&1=a&x=c", {"1": "a", "2": "b", "x": "c"}),
        ('{"a":1', {'{"a":1': ""}),
        ("a]=1", {"a]": "1"}),
    ],
)
def test_bodies(text: str, expected: Any) -> None:
    value = parse_value(text)
    assert value == expected
    if isinstance(expected, dict):
        assert list(value) == list(expected)
    assert parse_body(text) == (expected if isinstance(expected, dict) else {})


def test_query_parameters_are_bounded() -> None:
    assert len(parse_query("&".join(f"k{n}=1" for n in range(5000)))) == 1000


def test_depth_bomb_is_an_error_not_a_query() -> None:
    with pytest.raises(WireError, match="nested"):
        parse_body("[" * 10_000)


@given(st.text())
def test_any_text_gives_an_object(text: str) -> None:
    assert isinstance(parse_body(text), dict)
    assert isinstance(parse_query(text), dict)


@given(st.text(st.sampled_from("ab[]=&%+12.__proto"), max_size=40))
def test_any_query_gives_an_object_that_prints(text: str) -> None:
    from trionode.wire.jsjson import stringify

    assert parse(stringify(parse_query(text))) == parse_query(text)


hashes = st.binary(min_size=20, max_size=20).map(bytes.hex)
keys = st.lists(st.text(max_size=12), max_size=4).map(tuple)
text_frames = st.one_of(
    st.builds(HashPresent, hashes),
    st.builds(HashRequest, hashes),
    st.builds(Nak, hashes, st.integers(0, 2)),
    st.builds(PeerExchange, keys, keys),
    st.builds(PeerUpdate, keys, keys, keys),
)


@given(text_frames)
def test_json_forms_round_trip(frame: Any) -> None:
    assert classify(parse_body(frame_text(frame))) == frame


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (Nak(HASH, 0), f'{{"type":"nak","hash":"{HASH}","reason":"stale"}}'),
        (HashPresent(HASH), f'{{"messageHashPresent":"{HASH}"}}'),
        (HashRequest(HASH), f'{{"requestMessageHash":"{HASH}"}}'),
        (PeerExchange(), '{"type":"peerExchange","outbound":[],"inbound":[]}'),
        (PeerUpdate(("a",), (), ("b",)), '{"type":"peerUpdate","addOutbound":["a"],"rm":["b"]}'),
        (PeerUpdate(), '{"type":"peerUpdate"}'),
    ],
)
def test_json_forms(frame: Any, text: str) -> None:
    assert frame_text(frame) == text


def test_sync_requests_have_no_text() -> None:
    with pytest.raises(WireError):
        frame_text(SyncRequest(0x20, 0, 0, "02", "x"))


@pytest.mark.parametrize("name", ["messageHashPresent", "requestMessageHash"])
@pytest.mark.parametrize("value", ["zz", 5, ["a"], {"a": 1}, "g" * 40, "a" * 39, "a" * 41, True, HASH + "\n"])
def test_bad_inventory_hash_closes(name: str, value: Any) -> None:
    with pytest.raises(WireError, match="40 hex"):
        classify({name: value})


def test_present_wins_over_request() -> None:
    assert classify({"requestMessageHash": HASH, "messageHashPresent": HASH}) == HashPresent(HASH)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"type": "nak"}, Nak("", 255)),
        ({"type": "nak", "hash": 5, "reason": ["stale"]}, Nak("", 255)),
        ({"type": "nak", "hash": HASH, "reason": "invalid"}, Nak(HASH, 2)),
        ({"type": "peerExchange", "outbound": "x", "inbound": [1, "a", None]}, PeerExchange((), ("a",))),
        ({"type": "peerUpdate", "rm": {"a": 1}}, PeerUpdate()),
        ({"type": ["nak"]}, {"type": ["nak"]}),
        ({}, {}),
        ({"messageHashPresent": ""}, {"messageHashPresent": ""}),
    ],
)
def test_sloppy_bodies(body: dict[str, Any], expected: Any) -> None:
    assert classify(body) == expected
