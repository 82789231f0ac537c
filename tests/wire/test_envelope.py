"""Envelopes, who may sign them, and sync answers (docs/spec/wire.md §8, §9, §11)."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.errors import WireError
from trionode.wire import syncmsg
from trionode.wire.envelope import Envelope, EnvelopeError, decode_envelope, seal, seal_text
from trionode.wire.frames import SYNC_INSTALL_ERRORS, SYNC_INSTALLING, SYNC_RUNNING, SYNC_TEMP
from trionode.wire.jsjson import parse, stringify
from trionode.wire.keys import NodeKey
from trionode.wire.nodelist import NodeEntry, NodeList
from trionode.wire.origin import (
    OriginVerdict,
    check_origin,
    check_record,
    is_signed,
    verify_envelope,
    verify_records,
)

NOW = 1_700_000_000_000
A, B, C = (NodeKey.generate(random.Random(seed), compressed=seed == 2) for seed in (1, 2, 3))
NODES = NodeList(
    [
        NodeEntry(ip="198.51.100.7", pubkey=A.public_key),
        NodeEntry(ip="198.51.100.9:16137", pubkey=B.public_key),
    ]
)
RUNNING = {"type": "fluxapprunning", "version": 2, "apps": [], "ip": "198.51.100.7", "broadcastedAt": NOW}


def body(**changes: Any) -> dict[str, Any]:
    whole = {"version": 1, "timestamp": NOW, "pubKey": "04aa", "signature": "sig", "data": {"type": "x"}}
    return {key: value for key, value in {**whole, **changes}.items() if value is not ...}


@given(
    st.dictionaries(
        st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=5), st.floats()), max_size=5
    )
)
def test_sealed_envelopes_survive_the_wire(data: dict[str, Any]) -> None:
    sealed = seal({"type": "x", **data}, A, NOW)
    received = decode_envelope(parse(sealed.text))
    assert received == sealed
    assert received.text == sealed.text
    assert received.data_hash == sealed.data_hash
    assert is_signed(received)
    assert sealed.signed_text == f"1{stringify(sealed.data)}{NOW}"


def test_seal_puts_data_into_javascript_order() -> None:
    sealed = seal({"b": 1, "1": 2.0, "type": "x"}, A, NOW)
    assert sealed.data_text == '{"1":2,"b":1,"type":"x"}'
    assert list(sealed.data) == ["1", "b", "type"]
    assert seal_text(sealed.data_text, A, NOW) == sealed


@pytest.mark.parametrize("field", ["version", "timestamp", "pubKey", "signature", "data"])
@pytest.mark.parametrize("value", [..., None, 0, "", False, float("nan")])
def test_missing_and_falsy_fields_are_refused(field: str, value: Any) -> None:
    with pytest.raises(EnvelopeError, match=field):
        decode_envelope(body(**{field: value}))


@pytest.mark.parametrize(
    "changes",
    [
        {"data": []},
        {"data": "x"},
        {"data": 5},
        {"pubKey": 5},
        {"signature": ["x"]},
        {"timestamp": True},
        {"timestamp": [NOW]},
        {"timestamp": {}},
    ],
)
def test_impossible_forms_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(EnvelopeError):
        decode_envelope(body(**changes))


@pytest.mark.parametrize("value", [None, [], "x", 5, True, {}])
def test_non_objects_are_refused(value: Any) -> None:
    with pytest.raises(EnvelopeError):
        decode_envelope(value)


def test_foreign_timestamps_are_kept_as_received() -> None:
    text = decode_envelope(body(timestamp="1700"))
    assert text.signed_text == '1{"type":"x"}1700'
    assert not text.has_integer_timestamp
    with pytest.raises(EnvelopeError, match="not an integer"):
        _ = text.timestamp_ms
    assert decode_envelope(body(timestamp=1.5)).signed_text.endswith("}1.5")
    assert decode_envelope(body(timestamp=1e21)).signed_text.endswith("}1e+21")
    assert decode_envelope(parse(stringify(body(timestamp=1.7e12)))).timestamp_ms == NOW


def test_odd_versions_are_signed_as_they_print() -> None:
    assert decode_envelope(body(version="1")).signed_text.startswith('1{"type"')
    assert decode_envelope(body(version=[1])).signed_text.startswith("[1]{")


def test_type_is_a_text() -> None:
    assert decode_envelope(body(data={"type": 5})).type == ""
    assert decode_envelope(body(data={"a": 5})).type == ""


def test_hash_and_texts_are_made_once() -> None:
    sealed = seal(RUNNING, A, NOW)
    assert sealed.data_hash is sealed.data_hash
    assert sealed.text is sealed.text


# ---- origin ------------------------------------------------------------------------------------------


def verdict(data: dict[str, Any], key: NodeKey, timestamp: Any = NOW, version: Any = 1) -> OriginVerdict:
    sealed = seal(data, key, NOW)
    changed = Envelope(version, timestamp, sealed.pub_key, sealed.signature, sealed.data, sealed.data_text)
    return check_origin(changed, NODES, NOW)


@pytest.mark.parametrize(
    "kind",
    ["fluxapprunning", "fluxappinstalling", "fluxappinstallingerror", "fluxappremoved", "fluxnodesigterm"],
)
def test_node_messages_belong_to_the_node_at_their_ip(kind: str) -> None:
    assert verdict({"type": kind, "ip": "198.51.100.7"}, A) is OriginVerdict.OK
    assert verdict({"type": kind, "ip": "198.51.100.7:16127"}, A) is OriginVerdict.OK
    assert verdict({"type": kind, "ip": "198.51.100.9:16137"}, B) is OriginVerdict.OK
    assert verdict({"type": kind, "ip": "198.51.100.7"}, B) is OriginVerdict.KEY_MISMATCH
    assert verdict({"type": kind, "ip": "198.51.100.9"}, B) is OriginVerdict.NODE_NOT_FOUND
    assert verdict({"type": kind, "ip": ["198.51.100.7"]}, A) is OriginVerdict.NODE_NOT_FOUND
    assert verdict({"type": kind}, A) is OriginVerdict.NODE_NOT_FOUND
    assert verdict({"type": kind, "oldIP": "198.51.100.7"}, A) is OriginVerdict.NODE_NOT_FOUND


def test_ip_change_belongs_to_the_old_ip() -> None:
    data = {"type": "fluxipchanged", "oldIP": "198.51.100.7", "newIP": "198.51.100.9"}
    assert verdict(data, A) is OriginVerdict.OK
    assert verdict(data, B) is OriginVerdict.KEY_MISMATCH
    assert (
        verdict({**data, "ip": "198.51.100.9:16137", "oldIP": "192.0.2.1"}, B) is OriginVerdict.NODE_NOT_FOUND
    )


def test_other_types_need_a_listed_key() -> None:
    assert verdict({"type": "fluxapprequest", "ip": "192.0.2.1"}, B) is OriginVerdict.OK
    assert verdict({"type": "fluxapprequest"}, C) is OriginVerdict.NODE_NOT_FOUND


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        (NOW + 120_000, OriginVerdict.OK),
        (NOW + 120_001, OriginVerdict.MALFORMED),
        (1, OriginVerdict.OK),
        (str(NOW), OriginVerdict.MALFORMED),
        (NOW + 0.5, OriginVerdict.MALFORMED),
    ],
)
def test_time_bound(timestamp: Any, expected: OriginVerdict) -> None:
    assert verdict(RUNNING, A, timestamp) is expected


@pytest.mark.parametrize("version", [2, "1", True, 1.5])
def test_version_must_be_the_number_one(version: Any) -> None:
    assert verdict(RUNNING, A, NOW, version) is OriginVerdict.MALFORMED


@pytest.mark.parametrize("kind", ["", 0, None])
def test_type_must_be_there(kind: Any) -> None:
    assert verdict({"type": kind, "ip": "198.51.100.7"}, A) is OriginVerdict.MALFORMED


def test_signature_is_the_last_word() -> None:
    good = seal(RUNNING, A, NOW)
    assert verify_envelope(good, NODES, NOW) is OriginVerdict.OK
    forged = Envelope(1, NOW + 1, good.pub_key, good.signature, good.data, good.data_text)
    assert verify_envelope(forged, NODES, NOW) is OriginVerdict.BAD_SIGNATURE
    assert OriginVerdict.BAD_SIGNATURE.is_bad_message
    assert not OriginVerdict.NODE_NOT_FOUND.is_bad_message
    assert verify_envelope(seal(RUNNING, C, NOW), NODES, NOW) is OriginVerdict.KEY_MISMATCH


def test_records_have_no_time_check_and_take_ip_before_old_ip() -> None:
    old = seal({"type": "fluxappinstalling", "ip": "198.51.100.7"}, A, 1)
    future = seal({"type": "fluxappinstalling", "ip": "198.51.100.7"}, A, NOW * 2)
    moved = seal({"type": "fluxipchanged", "oldIP": "198.51.100.7"}, A, NOW)
    crossed = seal({"type": "x", "ip": "198.51.100.9:16137", "oldIP": "198.51.100.7"}, A, NOW)
    untyped = seal({"name": "x"}, A, NOW)
    stranger = seal({"type": "x"}, C, NOW)
    forged = Envelope(1, 2, old.pub_key, old.signature, old.data, old.data_text)
    records = [old, future, moved, crossed, untyped, stranger, forged]
    assert verify_records(records, NODES) == [
        OriginVerdict.OK,
        OriginVerdict.OK,
        OriginVerdict.OK,
        OriginVerdict.KEY_MISMATCH,
        OriginVerdict.MALFORMED,
        OriginVerdict.NODE_NOT_FOUND,
        OriginVerdict.BAD_SIGNATURE,
    ]
    assert check_record(forged, NODES) is OriginVerdict.OK


# ---- sync answers ------------------------------------------------------------------------------------


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_dates_round_trip(time_ms: int) -> None:
    assert syncmsg.iso_ms(syncmsg.iso_text(time_ms)) == time_ms


def test_dates() -> None:
    assert syncmsg.iso_text(NOW) == "2023-11-14T22:13:20.000Z"
    assert syncmsg.iso_text(-1) == "1969-12-31T23:59:59.999Z"
    assert syncmsg.iso_ms(NOW) == NOW
    for odd in (
        "",
        "2023",
        "2023-13-01T00:00:00.000Z",
        "2023-11-14T22:13:20",
        None,
        True,
        [],
        float("nan"),
        1e300,
    ):
        assert syncmsg.iso_ms(odd) is None
    for far in (10**18, -(10**18)):
        with pytest.raises(WireError):
            syncmsg.iso_text(far)


def test_answers_keep_signed_texts_and_read_back() -> None:
    event = seal({"type": "fluxapprunning", "version": 2, "apps": [], "1": 0.5, "ip": "198.51.100.7"}, A, NOW)
    items = [
        syncmsg.event_item_text(
            "198.51.100.7",
            "apprunning",
            "v2",
            broadcasted_at_ms=NOW,
            data_text=event.data_text,
            envelope_text=syncmsg.envelope_fields_text(event),
            received_at_ms=NOW + 9,
        ),
        syncmsg.event_item_text("192.0.2.1", "evicted", "evicted", created_at_ms=NOW, received_at_ms=NOW),
    ]
    text = syncmsg.chunk_data_text(SYNC_RUNNING, items, done=True)
    assert stringify(parse(text)) == text
    answer = decode_envelope(parse(seal_text(text, B, NOW).text))
    assert is_signed(answer)
    chunk = syncmsg.read_chunk(answer)
    assert (chunk.kind, chunk.done) == (SYNC_RUNNING, True)
    signed, evicted = syncmsg.records_of(chunk)
    assert signed.envelope == event
    assert verify_records([event], NODES) == [OriginVerdict.OK]
    assert evicted.envelope is None
    assert evicted.item["createdAt"] == "2023-11-14T22:13:20.000Z"


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, [0]), (1999, [1999]), (2000, [2000, 0]), (4001, [2000, 2000, 1])]
)
def test_chunks(count: int, sizes: list[int]) -> None:
    chunks = [parse(text) for text in syncmsg.chunked(SYNC_TEMP, (f'{{"n":{n}}}' for n in range(count)))]
    assert [len(chunk["messages"]) for chunk in chunks] == sizes
    assert [chunk["done"] for chunk in chunks] == [False] * (len(sizes) - 1) + [True]
    assert list(chunks[0]) == ["type", "version", "messages", "done"]


@pytest.mark.parametrize(
    "data",
    [
        {"type": "fluxapprunningsync"},
        {"type": "fluxapprunningsync", "messages": {}},
        {"type": "fluxapprunningsync", "messages": [{}] * 2501},
        {"type": "fluxapprunning", "messages": []},
        {"type": 5},
    ],
)
def test_bad_answers_are_refused(data: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        syncmsg.read_chunk(decode_envelope(body(data=data)))


def test_largest_answer_is_taken_and_junk_items_left_out() -> None:
    data = {"type": "fluxapprunningsync", "messages": [{}] * 2498 + [5, None], "done": 1}
    chunk = syncmsg.read_chunk(decode_envelope(body(data=data)))
    assert (len(chunk.messages), chunk.done) == (2498, False)


json_like = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["version", "timestamp", "pubKey", "signature", "data", "type", "envelope", "messages", "ip"]
            ),
            inner,
            max_size=6,
        ),
    ),
    max_leaves=15,
)


@pytest.mark.parametrize("kind", [[], {}, 1, None, True, "fluxapprunning"])
def test_a_sync_answer_is_told_by_a_text_as_type(kind: Any) -> None:
    assert not syncmsg.is_sync_answer({"data": {"type": kind}})
    assert syncmsg.is_sync_answer({"data": {"type": "fluxapprunningsync"}})


@given(json_like)
def test_decoders_raise_nothing_but_wire_errors(value: Any) -> None:
    assert syncmsg.is_sync_answer(value) in (True, False)
    if isinstance(value, dict):
        for kind in (SYNC_TEMP, SYNC_RUNNING, SYNC_INSTALLING, SYNC_INSTALL_ERRORS):
            record = syncmsg.record_of(kind, value)
            if record.envelope is not None:
                assert verify_records([record.envelope], NODES)[0] is not OriginVerdict.OK
    try:
        envelope = decode_envelope(value)
    except WireError:
        return
    assert isinstance(envelope.data_hash, str)
    assert verify_envelope(envelope, NODES, NOW) is not OriginVerdict.OK
    assert parse(envelope.text)["data"] == parse(envelope.data_text)
    try:
        syncmsg.read_chunk(envelope)
    except WireError:
        return
