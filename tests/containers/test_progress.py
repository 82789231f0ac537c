"""The stream of what an operation tells: bounded, never in the way, JSON objects in a row."""

from __future__ import annotations

import pytest

from trionode.containers.engine import PullProgress
from trionode.containers.progress import ProgressStream, of_pull, status
from trionode.wire.jsjson import parse

pytestmark = pytest.mark.trio


async def test_messages_come_in_order_and_end_with_the_last() -> None:
    stream = ProgressStream()
    stream.tell(status("one"))
    stream.tell(of_pull(PullProgress("Downloading", "ab12", 5, 10)))
    stream.close(status("done"))
    stream.tell(status("too late"))
    assert [message async for message in stream.messages()] == [
        {"status": "one"},
        {"status": "Downloading", "id": "ab12", "progressDetail": {"current": 5, "total": 10}},
        {"status": "done"},
    ]


async def test_objects_follow_each_other_without_anything_between() -> None:
    stream = ProgressStream()
    stream.tell(status('a "b"'))
    stream.close(status("ä"))
    text = b"".join([chunk async for chunk in stream.chunks()]).decode()
    assert parse(f"[{text.replace('}{', '},{')}]") == [{"status": 'a "b"'}, {"status": "ä"}]


async def test_a_reader_that_is_slow_or_gone_holds_nothing_up() -> None:
    stream = ProgressStream(2)
    for number in range(10):
        stream.tell(status(str(number)))
    assert stream.dropped == 8
    stream.close(status("last"))
    assert [message["status"] async for message in stream.messages()] == ["0", "1", "last"]
    unread = ProgressStream()
    messages = unread.messages()
    unread.tell(status("x"))
    assert await anext(messages) == {"status": "x"}
    await messages.aclose()  # type: ignore[attr-defined]
    unread.tell(status("y"))
    assert unread.dropped == 1


async def test_messages_about_the_whole_image_have_no_layer() -> None:
    assert of_pull(PullProgress("Digest: sha256:1")) == {"status": "Digest: sha256:1"}
