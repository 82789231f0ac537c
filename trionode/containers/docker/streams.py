"""Bytes of the engine's streams as lines and frames; pure (docs/spec/lifecycle.md §13).

Output of containers without a terminal comes in frames: one byte for the stream, three of nothing, four for
the length (big endian), then the content. Frames and lines end where they like.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from trionode.containers.engine import LogLine

HEADER_BYTES = 8
LONGEST_LINE_BYTES = 1 << 20
"""A longer line is told in pieces, so that no memory grows without bound."""

StreamName = Literal["stdout", "stderr"]


class Lines:
    """Cuts bytes into lines, without their newlines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, content: bytes) -> list[bytes]:
        """The lines that are whole now."""
        *whole, self._rest = (self._rest + content).split(b"\n")
        if len(self._rest) > LONGEST_LINE_BYTES:
            whole.append(self._rest)
            self._rest = b""
        return whole

    def end(self) -> list[bytes]:
        """The last line, if it had no newline."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


class Frames:
    """Cuts bytes into (stream, content); content comes as soon as it is there, before its frame is whole."""

    def __init__(self) -> None:
        self._header = b""
        self._stream: StreamName = "stdout"
        self._missing = 0

    def feed(self, content: bytes) -> Iterator[tuple[StreamName, bytes]]:
        at = 0
        while at < len(content):
            if self._missing:
                piece = content[at : at + self._missing]
                self._missing -= len(piece)
                at += len(piece)
                yield self._stream, piece
                continue
            piece = content[at : at + HEADER_BYTES - len(self._header)]
            self._header += piece
            at += len(piece)
            if len(self._header) == HEADER_BYTES:
                self._stream = "stderr" if self._header[0] == 2 else "stdout"
                self._missing = int.from_bytes(self._header[4:])
                self._header = b""


class LogLines:
    """Cuts the answer to a logs call into lines. `terminal`: the container has one, there are no frames."""

    def __init__(self, *, terminal: bool, timestamps: bool) -> None:
        self._frames = None if terminal else Frames()
        self._timestamps = timestamps
        self._lines: dict[StreamName, Lines] = {"stdout": Lines(), "stderr": Lines()}

    def feed(self, content: bytes) -> list[LogLine]:
        """The lines that are whole now."""
        if self._frames is None:
            return [self._line("stdout", line) for line in self._lines["stdout"].feed(content)]
        return [
            self._line(stream, line)
            for stream, piece in self._frames.feed(content)
            for line in self._lines[stream].feed(piece)
        ]

    def end(self) -> list[LogLine]:
        """What had no newline."""
        return [self._line(stream, line) for stream, lines in self._lines.items() for line in lines.end()]

    def _line(self, stream: StreamName, line: bytes) -> LogLine:
        text = line.decode(errors="replace").removesuffix("\r")
        if not self._timestamps:
            return LogLine(stream, text)
        at, _, rest = text.partition(" ")
        return LogLine(stream, rest, at)
