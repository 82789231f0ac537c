"""The adapter against an engine of values: versions, cancellation, interruptions, nothing left open."""

from __future__ import annotations

import base64
import gc
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import trio
from fakedocker import Answer, FakeDocker

from trionode.containers.docker import link
from trionode.containers.docker.engine import DockerEngine, open_docker
from trionode.containers.engine import (
    CHANGES_BYTES,
    Credentials,
    EngineError,
    EngineFull,
    EngineUnreachable,
    NotFound,
    PullProgress,
)
from trionode.errors import ConfigError
from trionode.plans.createoptions import CreateOptions

pytestmark = [pytest.mark.trio, pytest.mark.process]

WITHIN_S = 120
START = (
    b'{"Type":"container","Action":"start","Actor":{"ID":"i","Attributes":{"name":"fluxa"}},"timeNano":1}\n'
)


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[FakeDocker]:
    """One that answers."""
    made = FakeDocker(tmp_path)
    async with made.running():
        yield made


@pytest.fixture
async def engine(fake: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DockerEngine]:
    """The adapter in front of it; nothing of it is open afterwards."""
    # An event loop that stands still for a while is no engine that is away.
    monkeypatch.setattr("trionode.containers.docker.events.ENTER_WITHIN_S", 60.0)
    async with open_docker(fake.url) as made:
        yield made
    with trio.fail_after(WITHIN_S):
        while fake.connections:
            await trio.testing.wait_all_tasks_blocked(0.01)
    # Unclosed sessions, connections and transports warn when they are collected, and warnings are errors.
    gc.collect()


async def closed(fake: FakeDocker, left: int = 0) -> bool:
    with trio.fail_after(WITHIN_S):
        while fake.connections > left:
            await trio.testing.wait_all_tasks_blocked(0.01)
    return True


async def asked(fake: FakeDocker, calls: int) -> None:
    """Wait until so many calls have come."""
    with trio.fail_after(WITHIN_S):
        while len(fake.asked) < calls:
            await trio.testing.wait_all_tasks_blocked(0.01)


async def test_a_newer_engine_is_spoken_to_in_its_oldest_version(
    fake: FakeDocker, engine: DockerEngine
) -> None:
    fake.answers["GET", "containers/json"] = Answer([{"Id": "i", "Names": ["/fluxa"], "State": "running"}])
    (row,) = await engine.containers()
    assert (row.name, row.state) == ("fluxa", "running")
    assert [(asked.version, asked.path) for asked in fake.asked] == [
        ("", "version"),
        ("v1.44", "containers/json"),
    ]
    info = await engine.info()
    assert (info.version, info.architecture, info.cpus) == ("29.0.0", "arm64", 4)


async def test_an_upgraded_engine_is_asked_for_its_versions_again(fake: FakeDocker, tmp_path: Path) -> None:
    old = FakeDocker(tmp_path, api="1.41", oldest="1.12")
    old.answers["GET", "containers/json"] = Answer([])
    async with open_docker(old.url) as engine:
        async with old.running():
            await engine.containers()
        with pytest.raises(EngineUnreachable):
            await engine.containers()
        new = FakeDocker(tmp_path)
        new.answers = old.answers
        async with new.running():
            await engine.containers()
    assert old.asked[-1].version == "v1.41"
    assert new.asked[-1].version == "v1.44"


async def test_nobody_there_is_unreachable_with_a_remedy(tmp_path: Path) -> None:
    async with open_docker(f"unix://{tmp_path}/nobody.sock") as engine:
        with pytest.raises(EngineUnreachable, match=r"nobody\.sock") as caught:
            await engine.containers()
        assert caught.value.remedy
        with pytest.raises(EngineUnreachable):
            async with engine.logs("fluxa"):
                pass
    gc.collect()


async def test_an_engine_behind_tcp() -> None:
    with socket.socket() as probe:
        # Bound, so that nobody else gets the port, but not listening.
        probe.bind(("127.0.0.1", 0))
        async with open_docker(f"tcp://127.0.0.1:{probe.getsockname()[1]}") as engine:
            with pytest.raises(EngineUnreachable):
                await engine.info()


async def test_errors_of_the_block_come_out_as_they_are(fake: FakeDocker) -> None:
    with pytest.raises(KeyError, match="own"):
        async with open_docker(fake.url):
            raise KeyError("own")
    with trio.move_on_after(0.05) as scope:
        async with open_docker(fake.url):
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_an_opening_can_be_cancelled_at_any_time(fake: FakeDocker) -> None:
    for number in range(20):
        with trio.move_on_after(number * 0.0005) as scope:
            async with open_docker(fake.url):
                await trio.sleep_forever()
        assert scope.cancelled_caught
    gc.collect()


async def test_addresses_of_another_kind_are_refused() -> None:
    for url in ("", "/var/run/docker.sock", "ssh://somewhere", "npipe://x"):
        with pytest.raises(ConfigError, match="address"):
            async with open_docker(url):
                pass


async def test_a_cancelled_block_may_still_use_the_engine(fake: FakeDocker) -> None:
    fake.answers["POST", "containers/fluxa/stop"] = Answer(status=204)
    with trio.CancelScope() as scope:
        async with open_docker(fake.url) as engine:
            scope.cancel()
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await engine.stop("fluxa", 1)
    assert fake.asked[-1].path == "containers/fluxa/stop"


async def test_tasks_from_elsewhere_may_use_the_engine(fake: FakeDocker) -> None:
    fake.answers["GET", "containers/json"] = Answer([])
    given, done = trio.Event(), trio.Event()
    made: list[DockerEngine] = []

    async def elsewhere() -> None:
        await given.wait()
        assert await made[0].containers() == ()
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(elsewhere)
        async with open_docker(fake.url) as engine:
            made.append(engine)
            given.set()
            await done.wait()
    with pytest.raises(EngineUnreachable, match="closed"):
        await made[0].containers()


async def test_calls_under_way_when_the_engine_is_closed_are_unreachable(fake: FakeDocker) -> None:
    fake.silent = True
    outcomes: list[type[BaseException]] = []

    async def ask(engine: DockerEngine) -> None:
        try:
            await engine.containers()
        except EngineError as error:
            outcomes.append(type(error))

    async with trio.open_nursery() as nursery, open_docker(fake.url) as engine:
        nursery.start_soon(ask, engine)
        await trio.testing.wait_all_tasks_blocked(0.05)
    assert outcomes == [EngineUnreachable]


async def test_a_cancelled_call_is_cancelled_at_the_engine(fake: FakeDocker, engine: DockerEngine) -> None:
    fake.answers["GET", "containers/json"] = Answer([])
    await engine.containers()
    fake.silent = True
    before = len(fake.asked)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.containers)
        await asked(fake, before + 1)
        nursery.cancel_scope.cancel()
    assert await closed(fake)
    fake.silent = False
    assert await engine.containers() == ()


async def test_a_cancelled_answer_is_cancelled_at_the_engine(fake: FakeDocker, engine: DockerEngine) -> None:
    fake.answers["GET", "containers/json"] = Answer(pieces=(b"[",), hangs=True)
    fake.answers["GET", "networks"] = Answer(pieces=(b"{",), status=500, hangs=True)
    await engine.info()
    for call in (engine.containers, engine.networks):
        before = len(fake.asked)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await asked(fake, before + 1)
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
        assert await closed(fake)


async def test_broken_answers_are_unreachable(fake: FakeDocker, engine: DockerEngine) -> None:
    fake.answers["GET", "containers/json"] = Answer(pieces=(b"[",), breaks_off=True)
    with pytest.raises(EngineUnreachable):
        await engine.containers()
    fake.answers["GET", "containers/a/json"] = Answer({"Id": "i"})
    fake.answers["GET", "containers/a/logs"] = Answer(pieces=(b"\1\0\0\0\0\0\0\4one\n",), breaks_off=True)

    async def read() -> None:
        async with engine.logs("a") as lines:
            async for _ in lines:
                pass

    with pytest.raises(EngineUnreachable):
        await read()


async def test_streams_do_not_starve_calls(fake: FakeDocker, engine: DockerEngine) -> None:
    fake.answers["GET", "containers/a/stats"] = Answer(pieces=(b'{"read":"1"}\n',), hangs=True)
    fake.answers["GET", "containers/json"] = Answer([])
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            async with engine.stats_stream("a") as samples:
                async for _ in samples:
                    pass

        for _ in range(150):
            nursery.start_soon(watch)
        with trio.fail_after(WITHIN_S):
            while fake.connections < 150:
                await trio.testing.wait_all_tasks_blocked(0.01)
            assert await engine.containers() == ()
        nursery.cancel_scope.cancel()


async def test_a_terminal_is_known_by_its_container(fake: FakeDocker, engine: DockerEngine) -> None:
    fake.answers["GET", "containers/a/json"] = Answer({"Id": "i", "Config": {"Tty": True}})
    fake.answers["GET", "containers/a/logs"] = Answer(pieces=(b"one\r\n", b"tw", b"o\r\n"))
    async with engine.logs("a", lines=5, since_s=1.5, follow=True) as lines:
        assert [line.text async for line in lines] == ["one", "two"]
    query = fake.asked[-1].query
    assert {"tail=5", "since=1.500000", "follow=1", "timestamps=0"} <= set(query.split("&"))


async def test_pulls(fake: FakeDocker, engine: DockerEngine) -> None:
    told = (
        b'{"status":"Pulling from a/b","id":"1"}\n{"status":"Downloading","id":"ab","progressDe',
        b'tail":{"current":5,"total":9}}\n',
        b'{"status":"Status: done"}',
    )
    fake.answers["POST", "images/create"] = Answer(pieces=told)
    credentials = Credentials("someone", "secret-word")
    async with engine.pull("registry.test/a/b", credentials) as messages:
        assert [message async for message in messages] == [
            PullProgress("Pulling from a/b", "1"),
            PullProgress("Downloading", "ab", 5, 9),
            PullProgress("Status: done"),
        ]
    asked = fake.asked[-1]
    assert asked.query == "fromImage=registry.test%2Fa%2Fb&tag=latest"
    sent = msgspec.json.decode(base64.urlsafe_b64decode(asked.headers["x-registry-auth"]))
    assert sent["serveraddress"] == "registry.test"
    async with engine.pull("registry.test/a/b:1") as messages:
        assert len([message async for message in messages]) == 3
    assert "x-registry-auth" not in fake.asked[-1].headers


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b'{"error":"manifest unknown: secret-word"}\n', NotFound),
        (b'{"errorDetail":{"message":"no space left on device for someone"},"error":""}\n', EngineFull),
        (b'{"errorDetail":{"message":"unexpected EOF"},"error":""}\n', EngineError),
    ],
)
async def test_errors_in_a_pull_are_raised_without_the_login(
    fake: FakeDocker, engine: DockerEngine, line: bytes, kind: type[EngineError]
) -> None:
    fake.answers["POST", "images/create"] = Answer(pieces=(b'{"status":"Pulling"}\n', line))
    async with engine.pull("a/b:1", Credentials("someone", "secret-word")) as messages:
        await anext(messages)
        with pytest.raises(EngineError) as caught:
            await anext(messages)
    assert type(caught.value) is kind
    text = repr(caught.value) + caught.value.one_line() + str(caught.value.__cause__)
    assert "secret-word" not in text
    assert "someone" not in text


async def test_secrets_of_a_create_are_not_in_its_error(fake: FakeDocker, engine: DockerEngine) -> None:
    fake.answers["POST", "containers/create"] = Answer(
        {"message": "invalid environment variable: WORD=hidden-word"}, 400
    )
    with pytest.raises(EngineError) as caught:
        await engine.create(
            CreateOptions("n", "a", "i", "img", "h", "net", environment=("WORD=hidden-word",))
        )
    assert "hidden-word" not in caught.value.message
    assert fake.asked[-1].query == "name=n"
    assert msgspec.json.decode(fake.asked[-1].body)["Env"] == ["WORD=hidden-word"]


async def test_names_are_quoted(fake: FakeDocker, engine: DockerEngine) -> None:
    with pytest.raises(NotFound):
        await engine.start("../info?x=#")
    assert fake.asked[-1].path == "containers/..%2Finfo%3Fx%3D%23/start"
    with pytest.raises(NotFound):
        await engine.image("127.0.0.1:5000/a/b@sha256:ab")
    assert fake.asked[-1].path == "images/127.0.0.1:5000/a/b@sha256:ab/json"


async def test_events_ask_for_what_is_of_use_since_the_engines_own_time(
    fake: FakeDocker, engine: DockerEngine
) -> None:
    fake.answers["GET", "events"] = Answer(pieces=(START[:30], START[30:]), hangs=True)
    async with engine.events() as events:
        event = await anext(events)
    assert (event.kind, event.action, event.name) == ("container", "start", "fluxa")
    query = fake.asked[-1].query
    assert "since=1767225600.500000000" in query
    assert "health_status" in query
    assert "exec" not in query


async def test_events_wait_for_an_engine_that_is_away(tmp_path: Path) -> None:
    fake = FakeDocker(tmp_path)
    fake.answers["GET", "events"] = Answer(pieces=(START,), hangs=True)
    async with open_docker(fake.url) as engine, engine.events() as events:
        with trio.move_on_after(0.3):
            await anext(events)
            raise AssertionError("nobody is there")
        with trio.fail_after(WITHIN_S):
            for _ in range(2):
                # Each time it comes back it is told first that something may be missing.
                async with fake.running():
                    assert (await anext(events)).lost
                    assert (await anext(events)).action == "start"


async def test_an_event_that_cannot_be_read_counts_as_lost(fake: FakeDocker, engine: DockerEngine) -> None:
    fake.answers["GET", "events"] = Answer(pieces=(b'{"Type":5}\n', START), hangs=True)
    async with engine.events() as events:
        heard = [await anext(events), await anext(events)]
    assert sorted(event.lost for event in heard) == [False, True]


async def test_an_engine_that_ends_the_stream_at_once_is_not_asked_without_pause(
    fake: FakeDocker, engine: DockerEngine
) -> None:
    fake.answers["GET", "events"] = Answer(pieces=None)
    async with engine.events() as events:
        with trio.move_on_after(1.5):
            async for event in events:
                assert event.lost
    assert len([asked for asked in fake.asked if asked.path == "events"]) <= 6


async def test_a_silent_engine_does_not_hold_up_who_wants_its_events(
    fake: FakeDocker, engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trionode.containers.docker.events.ENTER_WITHIN_S", 0.05)
    fake.answers["GET", "events"] = Answer(pieces=(START,), hangs=True)
    fake.silent = True
    with trio.fail_after(WITHIN_S):
        async with engine.events() as events:
            fake.silent = False
            assert (await anext(events)).lost
            assert (await anext(events)).action == "start"


async def test_leaving_the_events_ends_their_connection(fake: FakeDocker, engine: DockerEngine) -> None:
    fake.answers["GET", "events"] = Answer(pieces=(START,), hangs=True)
    async with engine.events() as events:
        await anext(events)
        with trio.move_on_after(0.05):
            await anext(events)
    # The one for plain calls stays for the next call.
    assert await closed(fake, 1)


async def test_the_client_is_loaded_with_the_first_engine_only() -> None:
    script = (
        "import sys, trionode.containers.docker.engine\n"
        "print([n for n in ('aiodocker', 'aiohttp', 'trio_asyncio') if n in sys.modules])"
    )
    done = await trio.run_process([sys.executable, "-c", script], capture_stdout=True)
    assert done.stdout.decode().strip() == "[]"


async def test_a_frozen_engine_holds_nobody_up_for_ever(
    fake: FakeDocker, engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "LONGEST_CALL_S", 0.2)
    fake.answers["GET", "networks"] = Answer(pieces=(b"[",), hangs=True)
    with trio.fail_after(WITHIN_S):
        # On a machine that stands still all the time may pass before the question is out.
        while not fake.asked or fake.asked[-1].path != "networks":
            with pytest.raises(EngineUnreachable, match=r"did not list networks within 0\.2 s"):
                await engine.networks()
    assert await closed(fake)


@pytest.mark.parametrize("where", ["environment", "command", "image", "name"])
async def test_half_a_character_is_refused_without_asking(
    fake: FakeDocker, engine: DockerEngine, where: str
) -> None:
    """No JSON can carry it; what it stands in may be secret."""
    odd = "SECRET=word\ud800"
    given = {"name": "fluxa", "image": "a:1", where: (odd,) if where in ("environment", "command") else odd}
    options = CreateOptions(app="a", identifier="a", hostname="a", network="n", **given)
    with pytest.raises(EngineError, match="half a character") as caught:
        await engine.create(options)
    assert "word" not in caught.value.message
    with pytest.raises(EngineError, match="half a character"):
        await engine.image(odd)
    with pytest.raises(EngineError, match="half a character"):
        await engine.inspect(odd)
    with pytest.raises(EngineError, match="half a character"):
        async with engine.pull("a:1", Credentials("anna", odd)) as messages:
            await anext(aiter(messages))


async def test_a_list_of_changes_without_end_is_refused(fake: FakeDocker, engine: DockerEngine) -> None:
    one = b'{"Path":"/tmp/a","Kind":1}'
    fake.answers["GET", "containers/fluxa/changes"] = Answer(pieces=(b"[", one, b"]"))
    assert await engine.changes("fluxa") == [{"Path": "/tmp/a", "Kind": 1}]
    many = (b"[" + (one + b",") * 40_000,) * (CHANGES_BYTES // 1_000_000 + 1)
    fake.answers["GET", "containers/fluxa/changes"] = Answer(pieces=many, hangs=True)
    with trio.fail_after(WITHIN_S), pytest.raises(EngineError, match="more than"):
        await engine.changes("fluxa")
    assert await closed(fake)
