"""Logs, details, numbers, commands inside: shapes, bounds, and what stays secret (spec/api.md §8.2)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.lowlevel

from trionode.api.appdesk import CHUNKS_AHEAD
from trionode.api.routes.applogs import without_arguments, without_secrets

WEB = "web_shop"


def say(hosted: Any, count: int) -> None:
    for number in range(count):
        hosted.clock.now += 1000
        hosted.apps.engine.say("fluxweb_shop", f"line {number}")


@pytest.mark.trio
async def test_the_tail_of_a_log_is_text(hosted: Any) -> None:
    me = hosted.proof(hosted.person)
    say(hosted, 150)
    assert (await hosted.data(f"/apps/applog/{WEB}/2", **me)) == "line 148\nline 149"
    assert len((await hosted.data(f"/apps/applog/{WEB}", **me)).splitlines()) == 100
    assert len((await hosted.data(f"/apps/applog/{WEB}/all", **me)).splitlines()) == 150
    assert (await hosted.get(f"/apps/applog/{WEB}/0", **me))["status"] == "error"
    answer = await hosted.get("/apps/applog/shop", **me)
    assert "name one of them: web_shop, db_shop" in answer["data"]["message"]


@pytest.mark.trio
@pytest.mark.parametrize("since", ["{s}", "{ms}", "{iso}"])
async def test_polling_has_its_members_beside_the_status(hosted: Any, since: str) -> None:
    me = hosted.proof(hosted.person)
    say(hosted, 9)
    at_s = (hosted.clock.now - 4_500) / 1000
    iso = "2025-10-09T08:53:24.623Z"
    told = since.format(s=at_s, ms=round(at_s * 1000), iso=iso)
    found = await hosted.get(f"/apps/applogpolling/{WEB}/3?since={told}", **me)
    assert list(found) == ["logs", "lineCount", "logCount", "sinceTimestamp", "truncated", "status"]
    assert [line.partition(" ")[2] for line in found["logs"]] == ["line 6", "line 7", "line 8"]
    assert (found["lineCount"], found["logCount"], found["truncated"]) == (3, 3, True)
    assert found["sinceTimestamp"] == told
    found = await hosted.get(f"/apps/applogpolling/{WEB}/30/{told}", **me)
    assert (found["logCount"], found["truncated"]) == (5, False)
    answer = await hosted.get(f"/apps/applogpolling/{WEB}/3/yesterday", **me)
    assert answer["status"] == "error"


@pytest.mark.trio
async def test_following_a_log_ends_with_the_client(hosted: Any, autojump_clock: Any) -> None:
    say(hosted, 2)
    request = hosted.raw("GET", f"/trionode/applog/{WEB}", **hosted.proof(hosted.person))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(request.run)
        await trio.sleep(1)
        say(hosted, 1)
        await trio.sleep(1)
        lines = [json.loads(line) for line in request.body.splitlines()]
        assert [line["text"] for line in lines] == ["line 0", "line 1", "line 0"]
        assert hosted.desk.streams.taken == 1
        request.leave()
    await trio.sleep(1)
    assert hosted.desk.streams.taken == 0


@pytest.mark.trio
async def test_the_environment_is_shown_to_the_owner_alone(hosted: Any) -> None:
    path = f"/apps/appinspect/{WEB}"
    found = await hosted.data(path, **hosted.proof(hosted.person))
    assert "TOKEN=secret-web" in found["Config"]["Env"]
    for who in (hosted.operator, hosted.team):
        response = await hosted.client.get(path, headers=hosted.proof(who))
        text = await response.get_data(as_text=True)
        assert "secret" not in text
        assert "TOKEN=" in json.loads(text)["data"]["Config"]["Env"]
    # and the engine's own document is as it was
    found = await hosted.data(path, **hosted.proof(hosted.person))
    assert "TOKEN=secret-web" in found["Config"]["Env"]


def test_commands_may_hold_secrets_too() -> None:
    check = {"Test": ["CMD", "check", "--password=hunter2"], "Interval": 5}
    document = {
        "Path": "--password=hunter2",
        "Args": ["--password", "hunter2"],
        "Config": {
            "Env": None,
            "Cmd": ["--password", "hunter2"],
            "Entrypoint": ["/run", "hunter2"],
            "Image": "web",
            "Healthcheck": check,
        },
        "State": {
            "Status": "running",
            "Error": 'exec: "--password=hunter2": executable file not found in $PATH',
            "Health": {"Status": "unhealthy", "Log": [{"Output": "hunter2 is wrong"}]},
        },
    }
    assert without_secrets(document) == {
        "Path": "",
        "Args": [],
        "Config": {
            "Env": [],
            "Cmd": [],
            "Entrypoint": [],
            "Image": "web",
            "Healthcheck": {"Test": [], "Interval": 5},
        },
        "State": {"Status": "running", "Error": "", "Health": {"Status": "unhealthy", "Log": []}},
    }
    assert check["Test"], "the engine's own document is as it was"
    assert without_secrets({"Config": None}) == {"Config": {}}
    assert without_secrets({"Config": {"Env": ["A=hunter2", "hunter2"]}}) == {"Config": {"Env": ["A=", ""]}}


def test_processes_are_named_without_their_arguments() -> None:
    found = {
        "Titles": ["PID", "CMD"],
        "Processes": [["1", "serve --password hunter2"], ["2", "serve", "--password", "hunter2"], ["3"]],
    }
    assert without_arguments(found) == {
        "Titles": ["PID", "CMD"],
        "Processes": [["1", "serve"], ["2", "serve"], ["3"]],
    }
    assert without_arguments({}) == {"Processes": []}


@pytest.mark.trio
async def test_arguments_of_processes_are_shown_to_the_owner_alone(hosted: Any) -> None:
    path = f"/apps/apptop/{WEB}"
    assert "secret" in json.dumps(await hosted.data(path, **hosted.proof(hosted.person)))
    for who in (hosted.operator, hosted.team):
        found = await hosted.data(path, **hosted.proof(who))
        assert found["Processes"][0][-1] == "/app"
        assert "secret" not in json.dumps(found)


@pytest.mark.trio
async def test_stats_with_disk_and_cpu_limit(hosted: Any) -> None:
    me = hosted.proof(hosted.person)
    found = await hosted.data(f"/apps/appstats/{WEB}", **me)
    assert found["nanoCpus"] == 500_000_000
    assert "cpu_stats" in found
    assert "disk_stats" not in found


@pytest.mark.trio
async def test_top_and_changes(hosted: Any) -> None:
    me = hosted.proof(hosted.person)
    assert (await hosted.data(f"/apps/apptop/{WEB}", **me))["Titles"][0] == "UID"
    assert {"Path": "/tmp/state", "Kind": 1} in await hosted.data(f"/apps/appchanges/{WEB}", **me)
    await hosted.apps.engine.stop("fluxweb_shop", 1)
    answer = await hosted.get(f"/apps/apptop/{WEB}", **me)
    assert answer["data"]["name"] == "EngineError"
    hosted.apps.engine.vanish("fluxweb_shop")
    answer = await hosted.get(f"/apps/apptop/{WEB}", **me)
    assert answer["data"]["name"] == "NotFound"


@pytest.mark.trio
async def test_a_stream_of_samples(hosted: Any, autojump_clock: Any) -> None:
    request = hosted.raw("GET", f"/apps/appmonitorstream/{WEB}", **hosted.proof(hosted.person))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(request.run)
        await trio.sleep(3.5)
        request.leave()
    text, decoder, count, at = request.body.decode(), json.JSONDecoder(), 0, 0
    while at < len(text):
        sample, at = decoder.raw_decode(text, at)
        assert "cpu_stats" in sample
        count += 1
    assert count == 4
    await trio.sleep(2)
    assert hosted.desk.streams.taken == 0


@pytest.mark.trio
async def test_exec_in_every_encoding(hosted: Any) -> None:
    me = hosted.proof(hosted.person)
    body = {"appname": WEB, "cmd": ["env"], "env": ["A=1"]}
    forms: list[dict[str, Any]] = [
        {"json": body},
        {"data": json.dumps(body), "headers": {"Content-Type": "text/plain"}},
        {"form": {"appname": WEB, "cmd": '["env"]', "env": '["A=1"]'}},
    ]
    for form in forms:
        headers = {**form.pop("headers", {}), **me}
        response = await hosted.client.post("/apps/appexec", headers=headers, **form)
        assert (await response.get_data(as_text=True)).endswith("A=1\n")
        assert response.headers["Content-Type"] == "application/octet-stream"


@pytest.mark.trio
@pytest.mark.parametrize(
    "body", [{"cmd": []}, {}, {"cmd": "ls"}, {"cmd": [1]}, {"cmd": ["ls"], "env": {"A": 1}}, {"cmd": "{}"}]
)
async def test_exec_says_what_is_wrong(hosted: Any, body: dict[str, Any]) -> None:
    answer = await hosted.post("/apps/appexec", {"appname": WEB, **body}, **hosted.proof(hosted.person))
    assert answer["status"] == "error"
    assert hosted.counters["api.requests.crashed"] == 0
    await hosted.apps.engine.stop("fluxweb_shop", 1)
    ask = {"appname": WEB, "cmd": ["ls"]}
    answer = await hosted.post("/apps/appexec", ask, **hosted.proof(hosted.person))
    assert answer["data"]["name"] == "EngineError"


@pytest.mark.trio
async def test_a_slow_client_holds_its_source_up_and_ends_it(hosted: Any, autojump_clock: Any) -> None:
    made: list[int] = []
    closed = trio.Event()

    @asynccontextmanager
    async def endless() -> AsyncIterator[AsyncIterator[bytes]]:
        async def pieces() -> AsyncIterator[bytes]:
            while True:
                made.append(1)
                yield b"x" * 1000

        try:
            yield pieces()
        finally:
            closed.set()

    output = await hosted.desk.pump(endless)
    await trio.sleep(5)
    assert len(made) <= CHUNKS_AHEAD + 1
    assert await anext(output) == b""
    assert len(await anext(output)) == 1000
    await output.aclose()
    with trio.fail_after(1):
        await closed.wait()
    with pytest.raises(StopAsyncIteration):
        await anext(output)


@pytest.mark.trio
async def test_a_client_that_leaves_before_the_source_is_open_ends_it_too(
    hosted: Any, autojump_clock: Any
) -> None:
    gone = trio.Event()

    @asynccontextmanager
    async def slow() -> AsyncIterator[AsyncIterator[bytes]]:
        try:
            await trio.sleep(1000)
        finally:
            gone.set()
        raise AssertionError("it was ended before")
        yield  # type: ignore[unreachable]

    with trio.move_on_after(1):
        await hosted.desk.pump(slow)
    with trio.fail_after(1):
        await gone.wait()
    await trio.lowlevel.checkpoint()
    assert hosted.desk.streams.taken == 0
