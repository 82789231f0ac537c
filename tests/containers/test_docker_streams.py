"""Bytes of an engine's streams become lines and frames, however they are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trionode.containers.docker.streams import LONGEST_LINE_BYTES, Frames, Lines, LogLines
from trionode.containers.engine import LogLine

TEXT = st.text(st.characters(blacklist_characters="\n\r", blacklist_categories=("Cs",)), max_size=20)
CUTS = st.lists(st.integers(1, 30), max_size=40)


def frame(stream: str, content: bytes) -> bytes:
    return bytes([2 if stream == "stderr" else 1, 0, 0, 0]) + len(content).to_bytes(4) + content


def cut(content: bytes, lengths: list[int]) -> list[bytes]:
    pieces = []
    for length in lengths:
        pieces.append(content[:length])
        content = content[length:]
    return [piece for piece in [*pieces, content] if piece]


@given(st.lists(TEXT, max_size=8), CUTS, st.booleans())
def test_lines_come_out_whole(texts: list[str], lengths: list[int], ends: bool) -> None:
    texts = texts or ["x"]
    content = "\n".join(texts).encode() + (b"\n" if ends else b"")
    lines = Lines()
    found = [line for piece in cut(content, lengths) for line in lines.feed(piece)] + lines.end()
    expected = [text.encode() for text in texts]
    if not ends and not expected[-1]:
        expected.pop()
    assert found == expected


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), TEXT), max_size=8), CUTS)
def test_frames_are_taken_apart(said: list[tuple[str, str]], lengths: list[int]) -> None:
    content = b"".join(frame(stream, text.encode()) for stream, text in said)
    frames = Frames()
    found = [one for piece in cut(content, lengths) for one in frames.feed(piece)]
    for stream in ("stdout", "stderr"):
        expected = b"".join(text.encode() for name, text in said if name == stream)
        assert b"".join(piece for name, piece in found if name == stream) == expected


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), TEXT), max_size=8), CUTS)
def test_log_lines_of_each_stream_keep_their_order(said: list[tuple[str, str]], lengths: list[int]) -> None:
    content = b"".join(frame(stream, f"{text}\n".encode()) for stream, text in said)
    lines = LogLines(terminal=False, timestamps=False)
    found = [one for piece in cut(content, lengths) for one in lines.feed(piece)] + lines.end()
    for stream in ("stdout", "stderr"):
        assert [one.text for one in found if one.stream == stream] == [
            text for name, text in said if name == stream
        ]


def test_a_line_in_two_frames_with_another_stream_between() -> None:
    lines = LogLines(terminal=False, timestamps=True)
    content = frame("stdout", b"2026-01-01T00:00:00Z one ") + frame("stderr", b"2026-01-01T00:00:01Z two\n")
    assert lines.feed(content) == [LogLine("stderr", "two", "2026-01-01T00:00:01Z")]
    assert lines.feed(frame("stdout", b"half")) == []
    assert lines.end() == [LogLine("stdout", "one half", "2026-01-01T00:00:00Z")]


def test_a_terminal_has_no_frames_and_ends_lines_in_its_own_way() -> None:
    lines = LogLines(terminal=True, timestamps=False)
    assert lines.feed(b"one\r\ntw") == [LogLine("stdout", "one")]
    assert lines.feed(b"o\r\n") == [LogLine("stdout", "two")]


def test_bytes_that_are_no_text_are_shown_all_the_same() -> None:
    lines = LogLines(terminal=True, timestamps=False)
    assert lines.feed(b"\xff\xfe\n")[0].text == "��"


def test_a_line_without_end_is_told_in_pieces() -> None:
    lines = Lines()
    piece = b"x" * (LONGEST_LINE_BYTES // 2)
    assert lines.feed(piece) == []
    assert lines.feed(piece) == []
    assert [len(line) for line in lines.feed(b"x")] == [LONGEST_LINE_BYTES + 1]
