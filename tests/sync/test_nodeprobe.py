"""What a node says of itself over HTTP: every odd answer is read as what it is."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from trionode.lifecycle.monitors import Word
from trionode.sync.nodeprobe import HttpNodeProbe
from trionode.sync.source import HttpBody, SourceError


class Remote:
    """A node that gives one body, slowly if wanted; None: it does not answer at all."""

    def __init__(self, body: bytes | None, *, encoding: str = "", pause_s: float = 0.0) -> None:
        self.body = body
        self.encoding = encoding
        self.pause_s = pause_s

    @asynccontextmanager
    async def get(self, ip: str, port: int, path: str) -> AsyncIterator[HttpBody]:
        assert path in ("/daemon/getfluxnodestatus", "/flux/version")
        if self.body is None:
            raise SourceError("refused")
        yield HttpBody(200, self.encoding, self._pieces(self.body))

    async def _pieces(self, body: bytes) -> AsyncGenerator[bytes, None]:
        for start in range(0, len(body), 1024):
            await trio.sleep(self.pause_s)
            yield body[start : start + 1024]


def told(**data: object) -> bytes:
    return json.dumps({"status": "success", "data": data}).encode()


CONFIRMED = told(status="CONFIRMED", ip="1.1.1.1")


@pytest.mark.trio
@pytest.mark.parametrize(
    ("remote", "word"),
    [
        (Remote(CONFIRMED), Word.CONFIRMED),
        (Remote(gzip.compress(CONFIRMED), encoding="gzip"), Word.CONFIRMED),
        (Remote(told(status="EXPIRED")), Word.OTHER),
        (Remote(b'{"status":"success"}'), Word.OTHER),
        (Remote(b'{"status":"success","data":null}'), Word.OTHER),
        (Remote(b'{"status":"success","data":"CONFIRMED"}'), Word.OTHER),
        (Remote(b'{"status":"error","data":{"status":"CONFIRMED"}}'), Word.OTHER),
        (Remote(b"[]"), Word.OTHER),
        (Remote(b"<html>"), Word.OTHER),
        (Remote(b"\xff\xfe"), Word.OTHER),
        (Remote(b""), Word.OTHER),
        (Remote(b"no gzip", encoding="gzip"), Word.OTHER),
        (Remote(b" " * 70_000 + CONFIRMED), Word.OTHER),
        (Remote(gzip.compress(b" " * 10_000_000 + CONFIRMED), encoding="gzip"), Word.OTHER),
        (Remote(None), Word.SILENT),
        (Remote(CONFIRMED, pause_s=11), Word.SILENT),
        (Remote(b" " * 60_000, pause_s=1), Word.SILENT),
    ],
)
async def test_words(remote: Remote, word: Word, autojump_clock: MockClock) -> None:
    probe = HttpNodeProbe(remote, timeout_s=10)
    assert await probe.word_of("1.1.1.1", 16127) is word
    assert trio.current_time() <= 10


@pytest.mark.trio
async def test_reaching() -> None:
    assert await HttpNodeProbe(Remote(b"whatever"), 10).reaches("1.1.1.1", 16127)
    assert not await HttpNodeProbe(Remote(None), 10).reaches("1.1.1.1", 16127)
