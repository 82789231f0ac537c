"""The cutter of streamed lists: any pieces, any bytes, bounded memory (docs/spec/registry.md §12)."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.sync.rowstream import BadStream, RowCutter, Unpacker

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=8), json_values, max_size=4)


def cut(body: bytes, sizes: list[int], cutter: RowCutter | None = None) -> tuple[list[Any], RowCutter]:
    cutter = cutter or RowCutter()
    rows: list[Any] = []
    place, turn = 0, 0
    while place < len(body):
        size = sizes[turn % len(sizes)]
        rows += [json.loads(row) for row in cutter.feed(body[place : place + size])]
        place, turn = place + size, turn + 1
    return rows, cutter


@given(
    rows=st.lists(objects, max_size=6),
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    ascii_only=st.booleans(),
    spaced=st.booleans(),
)
def test_any_pieces_give_the_same_objects(
    rows: list[dict[str, Any]], sizes: list[int], ascii_only: bool, spaced: bool
) -> None:
    listed = json.dumps(
        rows, ensure_ascii=ascii_only, separators=(", ", ": ") if spaced else (",", ":")
    ).encode("utf-8", "surrogatepass")
    found, cutter = cut(b'{"status":"success","data":' + listed + b',"more":[{}]}', sizes)
    assert found == rows
    assert cutter.ended
    cutter.finish()


def test_memory_stays_bounded() -> None:
    cutter = RowCutter()
    row = b'{"hash":"' + b"a" * 64 + b'","text":"' + "ü{}".encode() * 300 + b'"}'
    list(cutter.feed(b'{"status":"success","data":['))
    for number in range(3000):
        found = list(cutter.feed((b"," if number else b"") + row))
        assert found == [row]
        assert cutter.buffered_bytes == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":[1]}',
        b'{"data":["text"]}',
        b'{"data":[[{}]]}',
        b'{"data":[null]}',
        b'{"data":[{} {}]}',
        b'{"data":[,{}]}',
        b'{"data":[{},]}',
        b'{"data":[{},,{}]}',
        b'{"data":[' + b" " * 100_000,
        b"x" * 100_000,
    ],
)
def test_what_is_no_list_of_objects_is_refused(body: bytes) -> None:
    with pytest.raises(BadStream):
        cut(body, [1000])


@pytest.mark.parametrize("body", [b"", b'{"status":"error"}', b'{"data":[', b'{"data":[{}', b'{"data":[{},'])
def test_a_list_that_breaks_off_is_told(body: bytes) -> None:
    _, cutter = cut(body, [7])
    with pytest.raises(BadStream, match="ended"):
        cutter.finish()


def test_an_endless_object_is_given_up() -> None:
    cutter = RowCutter(max_object_bytes=10_000)
    with pytest.raises(BadStream, match="longer than 10000"):
        cut(b'{"data":[{"a":"' + b"x" * 20_000, [1000], cutter)


def test_what_follows_the_list_is_not_kept() -> None:
    _, cutter = cut(b'{"data":[{"a":1}]' + b"x" * 100_000, [1000])
    assert cutter.ended
    assert cutter.buffered_bytes < 2000


def test_gzip_comes_out_in_pieces() -> None:
    text = bytes(random.Random(1).choices(b"abcdef", k=3_000_000))
    unpacker = Unpacker("gzip")
    packed = gzip.compress(text, 1)
    pieces = [
        piece for start in range(0, len(packed), 999) for piece in unpacker.feed(packed[start : start + 999])
    ]
    assert b"".join(pieces) == text
    assert max(map(len, pieces)) <= 256 * 1024


def test_a_gzip_bomb_ends_at_the_limit() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    unpacker = Unpacker("gzip", max_total_bytes=8 << 20)
    sizes: list[int] = []
    with pytest.raises(BadStream, match="more bytes"):
        sizes.extend(map(len, unpacker.feed(bomb)))
    assert max(sizes) <= 256 * 1024


@pytest.mark.parametrize("encoding", ["br", "deflate, gzip", "x" * 500])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(BadStream, match="nobody asked"):
        Unpacker(encoding)


def test_broken_gzip_is_told() -> None:
    with pytest.raises(BadStream, match="broken gzip"):
        list(Unpacker("gzip").feed(b"this is not gzip at all"))
