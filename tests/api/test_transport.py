"""Conventions of every answer: envelope, cache, ETag, HEAD, gzip, CORS, bodies (api.md §1)."""

from __future__ import annotations

from typing import Any

import pytest
import trio

pytestmark = pytest.mark.trio


async def test_envelope_bytes_are_exact(node: Any) -> None:
    response = await node.client.get("/flux/version")
    assert await response.get_data() == b'{"status":"success","data":"8.13.1"}'
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert response.headers["Access-Control-Allow-Origin"] == "*"


async def test_cache_control_is_exactly_max_age(node: Any, autojump_clock: Any) -> None:
    first = await node.client.get("/apps/locations")
    assert first.headers["Cache-Control"] == "max-age=30"
    await trio.sleep(10)
    later = await node.client.get("/apps/locations")
    assert later.headers["Cache-Control"] == "max-age=20"
    await trio.sleep(21)
    fresh = await node.client.get("/apps/locations")
    assert fresh.headers["Cache-Control"] == "max-age=30"
    assert "Cache-Control" not in (await node.client.get("/id/loginphrase")).headers


async def test_cached_answer_is_kept_and_bypassed(node: Any, autojump_clock: Any) -> None:
    assert await node.data("/flux/dosstate") == {"dosState": 0, "dosMessage": None}
    node.dos.set(5, None)
    assert (await node.data("/flux/dosstate"))["dosState"] == 0
    assert (await node.data("/flux/dosstate?_=1"))["dosState"] == 5
    assert (await node.data("/flux/dosstate", **{"x-apicache-bypass": "true"}))["dosState"] == 5
