"""/flux/eventstream (docs/spec/api.md §10)."""

from __future__ import annotations

from trionode.api.answers import ApiFailure, Stream
from trionode.api.call import Call
from trionode.api.route import Route
from trionode.api.sse import HEADERS, EventStream, last_event_id


async def event_stream(call: Call) -> Stream:
    settings = call.context.settings.api
    if not settings.event_stream:
        raise ApiFailure("Event stream not enabled", http_status=404)
    after_id = last_event_id(call.headers.get("Last-Event-ID"))
    chunks = EventStream(call.context.bus, after_id, settings.event_ring, settings.sse_keepalive_s)
    return Stream(chunks, HEADERS)


ROUTES = (
    Route(
        "/flux/eventstream",
        event_stream,
        "Server-sent events; `Last-Event-ID` replays what is newer, 0 or none everything kept",
        "events",
        content_type="text/event-stream",
        rare_statuses=(404,),
    ),
)
