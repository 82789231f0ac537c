"""Reading a sync answer as it stands gives what reading it as a whole gives (wire.md §8, §11)."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from trionode.sync.stateverify import Answer, ChunkRefused, open_answer, plain_items
from trionode.wire.envelope import decode_envelope, seal
from trionode.wire.jsjson import parse
from trionode.wire.keys import NodeKey
from trionode.wire.nodelist import NodeEntry, NodeList
from trionode.wire.syncmsg import read_chunk

KEY = NodeKey.generate(random.Random(4))
NODES = NodeList([NodeEntry(ip="1.1.1.1", pubkey=KEY.public_key)])
NOW_MS = 1_760_000_000_000
RUNNING = "fluxapprunningsync"

texts = st.text(max_size=8) | st.sampled_from(['"', "\\", "\ud800", "é", "\u2028", "\x1b", '{"a":[', "}"])
leaves = st.none() | st.booleans() | st.integers(-5, 2**53) | st.floats(allow_nan=False) | texts
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def opened(text: str, *, nodes: NodeList = NODES, not_before_ms: int = 0) -> Answer:
    return open_answer(text, nodes, NOW_MS, not_before_ms=not_before_ms, max_future_ms=120_000)


def items_of(answer: Answer) -> list[Any]:
    return trio.run(plain_items, answer)


def sealed(data: dict[str, Any], *, at_ms: int = NOW_MS) -> str:
    return seal(data, KEY, at_ms).text


@given(items=st.lists(values, max_size=4), done=st.booleans())
def test_items_are_those_of_the_whole_text(items: list[Any], done: bool) -> None:
    text = sealed({"type": RUNNING, "messages": items, "done": done})
    chunk = read_chunk(decode_envelope(parse(text)))
    answer = opened(text)
    assert repr(items_of(answer)) == repr(list(chunk.messages))
    assert (answer.kind, answer.done) == (chunk.kind, chunk.done)


def spaced(text: str) -> str:
    return json.dumps(json.loads(text), indent=1)


def envelope_backwards(text: str) -> str:
    return json.dumps(dict(reversed(json.loads(text).items())), ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize("written", [str, spaced, envelope_backwards])
def test_other_ways_of_writing_are_read_too(written: Any) -> None:
    data = {"type": RUNNING, "messages": [{"name": "é"}, "junk", {"n": 1e21}], "done": True}
    answer = opened(written(sealed(data)))
    assert items_of(answer) == [{"name": "é"}, {"n": 1e21}]
    assert answer.done


@pytest.mark.parametrize(
    ("data", "done"),
    [
        ({"messages": [{}], "done": True, "type": RUNNING}, True),
        ({"type": RUNNING, "done": 1, "messages": [{}]}, False),
        ({"type": RUNNING, "messages": [{}]}, False),
        ({"type": RUNNING, "version": 1, "messages": [{}], "done": True, "more": [[]]}, True),
    ],
)
def test_odd_answers_mean_what_they_mean_to_others(data: dict[str, Any], done: bool) -> None:
    answer = opened(sealed(data))
    assert (items_of(answer), answer.done) == ([{}], done)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"type": RUNNING}, "no_list_or_too_many"),
        ({"type": RUNNING, "messages": "text", "done": True}, "no_list_or_too_many"),
        ({"type": RUNNING, "messages": [1] * 2501, "done": True}, "no_list_or_too_many"),
        ({"type": "fluxsomethingsync", "messages": [], "done": True}, "no_list_or_too_many"),
        ({"messages": [], "done": True}, "malformed"),
        # a type that may only be signed by the node at its address
        ({"type": "fluxapprunning", "messages": [], "done": True}, "node_not_found"),
    ],
)
def test_what_is_no_answer_is_refused(data: dict[str, Any], reason: str) -> None:
    with pytest.raises(ChunkRefused) as refusal:
        opened(sealed(data))
    assert refusal.value.reason == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "malformed"),
        ("null", "malformed"),
        ("[]", "malformed"),
        ("{" * 100_000, "malformed"),
        ('{"data":{"type":"fluxapprunningsync"}}', "malformed"),
    ],
)
def test_what_is_no_envelope_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ChunkRefused) as refusal:
        opened(text)
    assert refusal.value.reason == reason


def test_unsigned_unlisted_and_old_answers_are_refused() -> None:
    text = sealed({"type": RUNNING, "messages": [], "done": True})
    for changed, reason in (
        (text.replace("true", "false"), "bad_signature"),
        (text.replace('"version":1', '"version":2'), "malformed"),
        (text.replace(str(NOW_MS), str(NOW_MS + 120_001)), "malformed"),
        (text.replace('"done":true', '"done":true,"done":false'), "bad_signature"),
    ):
        with pytest.raises(ChunkRefused) as refusal:
            opened(changed)
        assert refusal.value.reason == reason
    with pytest.raises(ChunkRefused) as refusal:
        opened(text, nodes=NodeList())
    assert refusal.value.reason == "node_not_found"
    with pytest.raises(ChunkRefused) as refusal:
        opened(text, not_before_ms=NOW_MS + 1)
    assert refusal.value.reason == "replayed"


def test_a_record_nested_too_deeply_is_left_out() -> None:
    deep = "[" * 190 + "]" * 190
    text = sealed({"type": RUNNING, "messages": [{"a": 1}, {"b": parse(deep)}], "done": True})
    assert len(items_of(opened(text))) == 2
