"""Objects out of a list of any length, as its bytes arrive (docs/spec/registry.md §12, api.md §8).

A peer's answer `{"status":"success","data":[{...},{...}]}` holds all messages of the network; here it is
cut into the texts of its objects with bounded memory, whatever a peer sends: an object or a head that is
too long, anything but objects in the list, too much in all and a broken gzip stream end in BadStream.
Cutting works on bytes, and JSON's marks are ASCII, so a piece may end inside a character.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from trionode.errors import TrionodeError

LIST_START = b'"data":['
MAX_HEAD_BYTES = 64 * 1024
MAX_OBJECT_BYTES = 4 * 1024 * 1024
MAX_TOTAL_BYTES = 1 << 30
INFLATED_PIECE_BYTES = 64 * 1024

# On to the next brace that is not in a string. Possessive: a failure costs one pass, not many.
_TO_BRACE = re.compile(rb'[^"{}]*+(?:"(?:[^"\\]++|\\.)*+"[^"{}]*+)*+([{}])', re.DOTALL).match
_BETWEEN = re.compile(rb"[ \t\n\r]*+(,?)[ \t\n\r]*+").match


class BadStream(TrionodeError):
    """What a peer streams is not a list of objects within bounds."""

    code = "stream"

    def __init__(self, message: str) -> None:
        super().__init__(message, remedy="ask another peer")


class RowCutter:
    """Feed it pieces; it gives back the complete objects of the list as bytes of JSON."""

    def __init__(self, *, max_object_bytes: int = MAX_OBJECT_BYTES) -> None:
        self._max_object_bytes = max_object_bytes
        self._buffer = bytearray()
        self._in_list = False
        self._depth = 0
        self._place = 0
        """Within an object: behind its last brace looked at."""
        self._rows = 0
        self.ended = False
        """The list is complete; what follows is of no interest."""

    @property
    def buffered_bytes(self) -> int:
        return len(self._buffer)

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The objects that `piece` completes. Raises BadStream."""
        if self.ended:
            return
        self._buffer += piece
        if not self._in_list and not self._find_list():
            return
        start = 0
        try:
            while not self.ended:
                if self._depth == 0:
                    begun = self._next_object(start)
                    if begun is None:
                        break
                    start = begun
                    continue
                end = self._end_of_object(start)
                if end is None:
                    if len(self._buffer) - start > self._max_object_bytes:
                        raise BadStream(f"an object is longer than {self._max_object_bytes} bytes")
                    break
                row = bytes(self._buffer[start:end])
                start = end
                self._rows += 1
                yield row
        finally:
            del self._buffer[:start]
            self._place -= start

    def finish(self) -> None:
        """The stream is over. Raises BadStream if the list is not."""
        if not self.ended:
            told = f"after {self._rows} objects" if self._in_list else "before the list began"
            raise BadStream(f"the answer ended {told}")

    def _find_list(self) -> bool:
        found = self._buffer.find(LIST_START)
        if found < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise BadStream(f"no list within {MAX_HEAD_BYTES} bytes")
            return False
        del self._buffer[: found + len(LIST_START)]
        self._in_list = True
        return True

    def _next_object(self, start: int) -> int | None:
        """Where the next object begins; None when it is not here yet, or never comes."""
        between = _BETWEEN(self._buffer, start)
        assert between is not None
        place = between.end()
        if place - start > MAX_HEAD_BYTES:
            raise BadStream("nothing but blanks")
        if place == len(self._buffer):
            return None
        mark = self._buffer[place]
        comma = bool(between[1])
        if mark == 0x5D and not (comma and self._rows):  # ]
            self.ended = True
            return None
        if mark != 0x7B or comma != bool(self._rows):  # {
            shown = bytes(self._buffer[place : place + 20])
            raise BadStream(f"something else than an object in the list: {shown!r}")
        self._depth = 1
        self._place = place + 1
        return place

    def _end_of_object(self, start: int) -> int | None:
        buffer, place, depth = self._buffer, self._place, self._depth
        while depth:
            found = _TO_BRACE(buffer, place)
            if found is None:
                self._place, self._depth = place, depth
                return None
            place = found.end()
            depth += 1 if buffer[place - 1] == 0x7B else -1
        self._place, self._depth = place, 0
        return place


class Unpacker:
    """Undoes the Content-Encoding of a body, in pieces of bounded size."""

    def __init__(self, encoding: str, *, max_total_bytes: int = MAX_TOTAL_BYTES) -> None:
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise BadStream(f"an answer encoded as {encoding[:40]!r}, which nobody asked for")
        self._zip = zlib.decompressobj(16 + zlib.MAX_WBITS) if "gzip" in encoding else None
        self._left_bytes = max_total_bytes

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """What `piece` unpacks to. Raises BadStream."""
        if self._zip is None:
            yield self._counted(piece)
            return
        while piece:
            if self._zip.eof:
                raise BadStream("bytes behind the end of the gzip stream")
            try:
                unpacked = self._zip.decompress(piece, INFLATED_PIECE_BYTES)
            except zlib.error as error:
                raise BadStream(f"broken gzip: {error}") from error
            piece = self._zip.unconsumed_tail
            if unpacked:
                yield self._counted(unpacked)

    def _counted(self, piece: bytes) -> bytes:
        self._left_bytes -= len(piece)
        if self._left_bytes < 0:
            raise BadStream("more bytes than all messages of the network can be")
        return piece
