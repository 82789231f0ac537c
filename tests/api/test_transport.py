"""Conventions of every answer: envelope, cache, ETag, HEAD, gzip, CORS, bodies (api.md §1)."""

from __future__ import annotations

import gzip
import json
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from trionode.errors import StoreAway

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


async def test_signed_in_callers_neither_fill_nor_read_the_cache(node: Any) -> None:
    admin = await node.sign_in(node.operator)
    assert (await node.data("/daemon/getinfo", zelidauth=admin))["balance"] == 12.5
    assert "balance" not in await node.data("/daemon/getinfo")
    assert (await node.data("/daemon/getinfo", zelidauth=admin))["balance"] == 12.5


async def test_errors_are_cached_like_answers(node: Any) -> None:
    node.chain.own_address = None
    assert (await node.get("/flux/nodetier"))["status"] == "error"
    node.chain.own_address = "127.1.0.1"
    assert (await node.get("/flux/nodetier"))["status"] == "error"
    assert await node.data("/flux/nodetier?again") == "cumulus_new"


async def ask(node: Any, path: str, **headers: str) -> Any:
    request = node.raw("GET", path, **headers)
    await request.run()
    return request


async def test_etag_and_not_modified(node: Any, autojump_clock: Any) -> None:
    tag = (await ask(node, "/apps/locations")).headers["Etag"]
    assert tag.startswith('W/"1e-')
    for header in (tag, f'"other", {tag}', "*", tag.removeprefix("W/")):
        again = await ask(node, "/apps/locations", **{"If-None-Match": header})
        assert (again.status, again.body) == (304, b"")
        assert again.headers == {
            "Etag": tag,
            "Cache-Control": "max-age=30",
            "Access-Control-Allow-Origin": "*",
        }
    assert (await ask(node, "/apps/locations", **{"If-None-Match": 'W/"1e-x"'})).status == 200


async def test_head_has_the_headers_of_get_and_no_body(node: Any, autojump_clock: Any) -> None:
    got, head = node.raw("GET", "/apps/locations"), node.raw("HEAD", "/apps/locations")
    await got.run()
    await head.run()
    assert (got.status, got.body) == (200, b'{"status":"success","data":[]}')
    assert (head.status, head.body) == (200, b"")
    assert head.headers == got.headers
    assert head.headers["Content-Length"] == str(len(got.body))


async def test_gzip_of_long_answers_only(node: Any) -> None:
    node.log.index.rows = [node.Location(f"app{i}", "h" * 64, f"127.1.0.{i}") for i in range(1, 100)]
    response = await node.client.get("/apps/locations", headers={"Accept-Encoding": "br, gzip;q=0.5"})
    assert response.headers["Content-Encoding"] == "gzip"
    packed = await response.get_data()
    assert response.headers["Content-Length"] == str(len(packed))
    assert len(json.loads(gzip.decompress(packed))["data"]) == 99
    for refusing in ("", "identity", "gzip;q=0", "br"):
        plain = await node.client.get("/apps/locations", headers={"Accept-Encoding": refusing})
        assert "Content-Encoding" not in plain.headers
        assert len(json.loads(await plain.get_data())["data"]) == 99
        assert plain.headers["Vary"] == "Accept-Encoding"
    short = await node.client.get("/flux/version", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in short.headers


async def test_preflight(node: Any) -> None:
    response = await node.client.options(
        "/id/verifylogin",
        headers={"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "zelidauth, x-a"},
    )
    assert response.status_code == 204
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.headers["Access-Control-Allow-Methods"] == "GET,HEAD,PUT,PATCH,POST,DELETE"
    assert response.headers["Access-Control-Allow-Headers"] == "zelidauth, x-a"
    assert (await node.client.options("/no/such/route")).status_code == 204


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_unknown_routes_are_html_404(node: Any, method: str) -> None:
    response = await node.client.open("/flux/<b>nothing</b>", method=method)
    text = (await response.get_data()).decode()
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert f"Cannot {method} /flux/&lt;b&gt;nothing&lt;/b&gt;" in text
    assert response.headers["Access-Control-Allow-Origin"] == "*"


async def test_a_wrong_method_is_an_unknown_route(node: Any) -> None:
    assert (await node.client.post("/flux/version")).status_code == 404
    assert (await node.client.get("/id/verifylogin")).status_code == 404


async def test_a_trailing_slash_changes_nothing(node: Any) -> None:
    assert await node.data("/flux/version/") == "8.13.1"
    assert await node.data("/flux/peers/") == []


async def test_parameters_come_from_the_path_or_the_query(node: Any) -> None:
    node.log.index.rows = [node.Location("Web", "h", "127.1.0.1"), node.Location("Db", "h", "127.1.0.1")]
    for path in ("/apps/location/web", "/apps/location?appname=WEB", "/apps/location/Web?appname=Db"):
        assert [row["name"] for row in await node.data(path)] == ["Web"], path
    for pattern in ("/w.b", "/%2E*", "?appname=(", "/%5B"):
        assert await node.data(f"/apps/location{pattern}") == [], pattern


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", '{"zelid":"x"}'),
        ("application/json; charset=utf-8", '{"zelid":"x"}'),
        ("text/plain", '{"zelid":"x"}'),
        ("application/x-www-form-urlencoded", '{"zelid":"x"}'),
        ("application/x-www-form-urlencoded", "zelid=x"),
        ("text/plain", "zelid=x&a=1"),
        ("", '{"zelid":"x"}'),
    ],
)
async def test_bodies_are_understood_in_every_encoding(node: Any, content_type: str, body: str) -> None:
    response = await node.client.post("/id/verifylogin", data=body, headers={"Content-Type": content_type})
    assert response.status_code == 200
    assert json.loads(await response.get_data())["data"]["message"] == "ZelID is not valid"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/json", b"{"), ("application/json", b"[1]"), ("text/plain", b'{"a":"\xff"}')],
)
async def test_malformed_bodies_are_400(node: Any, content_type: str, body: bytes) -> None:
    response = await node.client.post("/id/verifylogin", data=body, headers={"Content-Type": content_type})
    assert response.status_code == 400
    assert json.loads(await response.get_data())["status"] == "error"


async def test_too_large_bodies_are_413(node: Any) -> None:
    node.configure("api", body_limit_bytes=1024)
    response = await node.client.post("/id/verifylogin", data=b" " * 2000)
    assert response.status_code == 413
    assert json.loads(await response.get_data())["data"]["message"] == "Body is larger than 1024 bytes"


async def test_empty_bodies_ask_for_what_is_missing(node: Any) -> None:
    response = await node.client.post("/id/verifylogin")
    assert json.loads(await response.get_data()) == {
        "status": "error",
        "data": {"message": "No ZelID is specified"},
    }


async def test_a_crash_in_a_handler_is_told_counted_and_survived(node: Any, caplog: Any) -> None:
    node.peers.table = None
    response = await node.client.get("/flux/peers")
    assert response.status_code == 500
    assert json.loads(await response.get_data()) == {
        "status": "error",
        "data": {"name": "AttributeError", "message": "Internal error"},
    }
    assert node.counters["api.requests.crashed"] == 1
    assert await node.data("/flux/version") == "8.13.1"


async def test_a_store_that_is_away_is_503_with_the_remedy(node: Any, caplog: Any) -> None:
    def rows() -> None:
        raise StoreAway("cannot write log.sqlite: database or disk is full", remedy="free some space")

    node.peers.table = SimpleNamespace(rows=rows)
    response = await node.client.get("/flux/peers")
    assert response.status_code == 503
    found = json.loads(await response.get_data())
    assert found["status"] == "error"
    assert found["data"]["message"] == "cannot write log.sqlite: database or disk is full - free some space"
    assert node.counters["api.requests.crashed"] == 0
    assert not caplog.records, "a traceback for each request would fill the disk that is full"


async def test_lone_surrogates_are_escaped(node: Any) -> None:
    node.log.index.rows = [node.Location("a\ud800", "h", "127.1.0.1")]
    response = await node.client.get("/apps/locations")
    assert b'"name":"a\\ud800"' in await response.get_data()
