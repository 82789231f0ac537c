"""Asking nodes over HTTP whether they are there and how they stand with the chain (events.md §8).

The answers of strangers: bounded in size and time, and whatever is wrong with them is an answer too.
"""

from __future__ import annotations

import trio

from trionode.errors import WireError
from trionode.lifecycle.confirmation import CONFIRMED
from trionode.lifecycle.monitors import Word
from trionode.sync.source import PeerHttp, SourceError
from trionode.sync.wholebody import whole_body
from trionode.wire.jsjson import parse

STATUS_PATH = "/daemon/getfluxnodestatus"
PRESENCE_PATH = "/flux/version"
BODY_LIMIT_BYTES = 64 * 1024


class HttpNodeProbe:
    """`hosting.sweep.NodeProbe` over `PeerHttp`. `timeout_s` bounds one whole answer."""

    def __init__(self, http: PeerHttp, timeout_s: float) -> None:
        self._http = http
        self._timeout_s = timeout_s

    async def word_of(self, ip: str, port: int) -> Word:
        """See `NodeProbe.word_of`."""
        text = None
        with trio.move_on_after(self._timeout_s):
            try:
                async with self._http.get(ip, port, STATUS_PATH) as body:
                    text = await whole_body(body, BODY_LIMIT_BYTES) or b""
            except SourceError:
                return Word.SILENT
        return Word.SILENT if text is None else _word(text.decode("utf-8", "replace"))

    async def reaches(self, ip: str, port: int) -> bool:
        """Whether anybody answers there over HTTP; the caller sets the time limit."""
        try:
            async with self._http.get(ip, port, PRESENCE_PATH):
                return True
        except SourceError:
            return False


def _word(text: str) -> Word:
    """CONFIRMED only if the answer says so in so many words; one without data says nothing of the kind."""
    try:
        answer = parse(text)
    except WireError:
        return Word.OTHER
    data = answer.get("data") if isinstance(answer, dict) and answer.get("status") == "success" else None
    confirmed = isinstance(data, dict) and data.get("status") == CONFIRMED
    return Word.CONFIRMED if confirmed else Word.OTHER
