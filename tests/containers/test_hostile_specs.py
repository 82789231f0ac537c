"""Whatever an owner registers concerns his app: specifications made to hurt, valid by the network's rules.

Each goes through the spawner's questions, install, update, redeploy and health, on engine and disk that raise
raw errors for what a kernel does not take. Nothing unforeseen may come of it, no service may end, and the
app of somebody else runs in the end. Storage and registry are the real clients with hostile answers behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import msgspec
import pytest
import trio
import trio.testing
from appworld import IMAGES, app, base, part
from hostworld import HostWorld, Node
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from spawnrig import HEIGHT, Net, Registry
from spawnrig import Node as SpawnNode

from trionode.config.tree import ResourceSettings
from trionode.containers.disk import VolumeRequest
from trionode.containers.images.http import open_image_registry
from trionode.containers.images.logins import Logins
from trionode.containers.images.specimages import SpecImages
from trionode.containers.install.storage import HttpStorage
from trionode.containers.install.workbench import NoSecrets
from trionode.containers.memory.disk import MemoryDisk
from trionode.containers.memory.engine import MemoryEngine
from trionode.containers.memory.objects import RegistryImage
from trionode.containers.node.publichosts import PublicHosts
from trionode.plans.createoptions import CreateOptions, docker_body
from trionode.plans.parts import parts_of
from trionode.plans.ports import ports_of
from trionode.plans.redeploy import Depth, plan_update
from trionode.plans.requirements import refusal
from trionode.plans.volumes import entries
from trionode.registry.images import BlockLists, find_block, is_vetted
from trionode.registry.reasons import Rejected
from trionode.registry.validation import validate
from trionode.runtime.clock import VirtualClock

OWNER_ID = "1CbErtneaX2QVyUfwU7JGB7VzvPgrgc3uC"
LONG = "a" * 64

# --- what hurts

WORDS = st.sampled_from(
    ["\ud800", "\udfff\ud800", "\0", "a\0b", "ä" * 130, "\u202e", "..", "=", "%", "{}", "9" * 400, " ", "\n"]
)
HOSTS = st.sampled_from(
    [
        f"{LONG}.com",
        ".".join(["a"] * 130),
        "xn--a.com",
        "ä" * 70 + ".com",
        "[::1",
        "[::1]",
        "localhost:99999",
        "127.0.0.1:0",
        "127.1",
        "10.0.0.1",
        "a..b",
        "-",
        "user:pa@h.com",
        "h.com:x",
        "\ud800.com",
        "exa mple.com",
        "",
    ]
)
TEXTS = st.one_of(
    WORDS,
    st.builds("A={}".format, WORDS),
    st.builds("F_S_ENV=http://{}/env{}".format, HOSTS, WORDS),
    st.builds("F_S_CMD=https://{}/{}".format, HOSTS, WORDS),
    st.builds("{}=http://ok.com/{}".format, st.sampled_from(["F_S_ENV", "F_S_CMD"]), st.integers(0, 11)),
    st.sampled_from(["LOG=SEND", "LOG=COLLECT", "F_S_ENV=", "F_S_ENV=file:///etc/passwd", "--privileged"]),
    st.text(st.characters(), max_size=12),
)
REPOTAGS = st.one_of(
    st.just("library/db:1"),
    st.builds("{}/a/b:1".format, HOSTS),
    st.builds("library/db:{}".format, WORDS),
    st.builds("library/{}:1".format, WORDS),
    st.just("a/" * 120 + "b:1"),
    st.text(max_size=20),
)
ENTRY = st.one_of(
    st.builds("m:{}:/x".format, WORDS),
    st.builds("f:{}:/y".format, WORDS),
    st.builds("{}:/z".format, st.integers(0, 10**30)),
    st.builds("c:{}:n:/z".format, WORDS),
    st.builds("cf:{}:{}:{}".format, st.integers(-2, 10**30), WORDS, WORDS),
    WORDS,
)
DATA = st.one_of(
    st.builds("|".join, st.tuples(st.sampled_from(["/d", "g:/d", "grs:/d", "r:/d\ud800", "/d\0"]), ENTRY)),
    st.builds("{}/d".format, WORDS),
    st.just("/" + "d" * 200),
    st.just("/data"),
)
ODD = st.one_of(st.integers(), st.floats(), st.none(), st.lists(st.text(max_size=3), max_size=3), WORDS)


def component(**members: Any) -> dict[str, Any]:
    return part("db", image="library/db:1", **{"description": "d", **members})


COMPONENTS = st.fixed_dictionaries(
    {},
    optional={
        "environmentParameters": st.lists(TEXTS, max_size=4),
        "commands": st.lists(TEXTS, max_size=4),
        "containerData": DATA | ODD,
        "repotag": REPOTAGS | ODD,
        "description": TEXTS,
        "domains": st.lists(TEXTS, max_size=2),
        "repoauth": TEXTS,
        "ports": st.lists(st.integers(30000, 39999), max_size=2),
        "containerPorts": st.lists(st.integers(1, 65535), max_size=2),
        "cpu": st.floats(0.1, 4.0) | ODD,
        "ram": st.integers(100, 1000) | ODD,
        "hdd": st.integers(1, 20) | ODD,
    },
)
APPS = st.fixed_dictionaries(
    {},
    optional={
        "description": st.one_of(TEXTS, st.builds("networkWith: [{}, base]".format, TEXTS)),
        "contacts": st.lists(TEXTS, max_size=2),
        "geolocation": st.lists(TEXTS | st.sampled_from(["acEU", "a!cNA", "bDE"]), max_size=3),
        "nodes": st.lists(TEXTS, max_size=2),
        "instances": st.integers(3, 100) | ODD,
        "staticip": st.booleans() | ODD,
        "enterprise": st.just("") | ODD,
        "expire": st.just(88000) | ODD,
    },
)


def spec_of(parts: list[Mapping[str, Any]], members: Mapping[str, Any]) -> dict[str, Any]:
    """A specification with these, everything else as it should be; ports and what belongs to them fit."""
    compose = []
    for number, given_members in enumerate(parts):
        one = {**component(), "name": f"db{number}", **given_members}
        count = min(len(one["ports"]), len(one["containerPorts"]))
        one["ports"], one["containerPorts"] = one["ports"][:count], one["containerPorts"][:count]
        one["domains"] = [*one["domains"], *([""] * count)][:count]
        compose.append(one)
    fixed = {"owner": OWNER_ID, "datacenter": False, "hash": "ee" * 32, "height": HEIGHT}
    return app("hurts", *compose, **{"description": "d", **members, **fixed})


SPECS = st.builds(spec_of, st.lists(COMPONENTS, min_size=1, max_size=2), APPS)


def must_be_valid(spec: dict[str, Any]) -> None:
    bare = {key: value for key, value in spec.items() if key not in ("hash", "height")}
    try:
        validate(bare, HEIGHT)
    except Rejected:
        assume(False)


# --- a machine that forgives nothing


class HarshEngine(MemoryEngine):
    """Raises what encoding and kernels raise, where the real adapter makes an error of it."""

    async def create(self, options: CreateOptions) -> str:
        msgspec.json.encode(docker_body(options))
        for text in (*options.environment, *options.command, *(bind.source for bind in options.binds)):
            if "\0" in text:
                raise ValueError("embedded null byte")
        return await super().create(options)

    async def image(self, repotag: str) -> Any:
        repotag.encode()
        return await super().image(repotag)


class HarshDisk(MemoryDisk):
    async def create_volume(self, request: VolumeRequest) -> None:
        for entry in entries(request.mounts, syncs=request.syncs):
            if "\0" in entry.name:
                raise ValueError("embedded null byte")
            if len(entry.name.encode()) > 255:
                raise OSError(36, "File name too long")
        await super().create_volume(request)


ANSWERS = (
    b'["A=1"]',
    b'["A=\\ud800"]',
    b'["A=\\u0000"]',
    b'{"a":1}',
    b"[1]",
    b"[[[",
    b"[" * 100_000,
    b"\xff\xfe",
    b'[null, "A=1"]',
    b'"text"',
    b"",
    b"[" + b'"x",' * 300 + b'"x"]',
)


def answering(request: httpx.Request) -> httpx.Response:
    """Storages and registries on the internet: they answer anything, or are not there."""
    host = request.url.host
    request.url.raw_host.decode("ascii").encode("idna")
    number = request.url.path.strip("/")
    if host.startswith("203.0.114.") or host == "ok.com":
        return httpx.Response(200, content=ANSWERS[int(number) % len(ANSWERS)] if number.isdigit() else b"[]")
    raise httpx.ConnectError("nobody there")


async def look_up(host: str, port: int) -> list[str]:
    await trio.lowlevel.checkpoint()
    host.encode("idna")
    return ["203.0.114.7"] if host == "ok.com" else ["10.0.0.1"]


class Key:
    def sign(self, message: str) -> str:
        message.encode()
        return "signed"


def world_of(client: httpx.AsyncClient) -> HostWorld:
    world = HostWorld()
    world.engine = HarshEngine(registry={image: RegistryImage() for image in IMAGES})
    world.disk = HarshDisk()
    hosts = PublicHosts(look_up=look_up)
    storage = HttpStorage(client, Key(), VirtualClock(), limit_bytes=10**6, hosts=hosts)
    vars(world.storage)["fetch"] = storage.fetch
    return world


async def live(spec: dict[str, Any]) -> None:
    """One app's life on a machine that has another app."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(answering)) as client:
        world = world_of(client)
        async with world.process() as node:
            actions = node.life.actions
            assert (await actions.install(base(), reason="the test")).ok
            await actions.install(spec, reason="the test")
            await actions.remove("hurts", reason="the test", force=True)
            # a good version first, which is then updated to the one that hurts
            good = spec_of([{}], {}) | {"hash": "aa" * 32}
            assert (await actions.install(good, reason="the test")).ok
            world.specs.known["hurts"] = spec
            plan = plan_update(good, spec)
            if plan.depth is not Depth.NOTHING:
                await actions.update(spec, plan, reason="the test")
            await actions.redeploy("hurts", hard=False, reason="the test")
            # however it got there: its row is on the disk, and its containers are gone
            await node.life.installed.put(spec)
            await vanish_all(world, node)
            await trio.sleep(7200)
            assert world.state("fluxcore_base") == "running"
            assert node.counters.snapshot("unforeseen") == {}
            assert actions._turns._counters.snapshot("unforeseen") == {}


async def vanish_all(world: HostWorld, node: Node) -> None:
    for row in await world.engine.containers():
        if row.name != "fluxcore_base":
            world.engine.vanish(row.name)
    node.host.rows_changed()


class Loud:
    """Where numbers for ports come from; engine and registry as the spawner has them."""

    async def info(self) -> Any:
        return MemoryEngine().about


async def question(spec: dict[str, Any]) -> None:
    """What the spawner asks about an app before it announces anything, and a whole round of it."""
    lists = BlockLists(blocked=("bad/miner",), vetted=("x",), operator=("y",))
    find_block(spec, "ee" * 32, lists)
    is_vetted(spec, "ee" * 32, lists)
    node = SpawnNode(Net(Registry()))
    refusal(spec, await node.facts(), ResourceSettings(), spawning=True)
    ports_of(parts_of(spec) or ())
    transport = httpx.MockTransport(answering)
    async with open_image_registry(
        max_image_bytes=10**9, token_margin_s=30, timeout_s=5, transport=transport
    ) as registry:
        logins = Logins(NoSecrets(), lambda app: 8)
        said = await SpecImages(registry, logins, Loud()).problem(spec)
        assert said, "nobody has that image"
    net = Net(Registry(spec, base()))
    spawner = SpawnNode(net)
    spawner.image_problem = "nobody has that image"
    async with net.run():
        await trio.sleep(7200)
    assert spawner.counters.snapshot("unforeseen") == {}


def play(spec: dict[str, Any], what: Any) -> None:
    trio.run(what, spec, clock=trio.testing.MockClock(autojump_threshold=0))


FUZZ = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


@FUZZ
@given(SPECS)
def test_a_hostile_specification_hurts_its_own_app_alone(spec: dict[str, Any]) -> None:
    must_be_valid(spec)
    play(spec, live)


@FUZZ
@given(SPECS)
def test_a_hostile_specification_does_not_stop_the_spawner(spec: dict[str, Any]) -> None:
    must_be_valid(spec)
    play(spec, question)


FOUND = [
    {"repotag": f"{LONG}.com/a/b:1"},
    {"repotag": ["a", "b:1"]},
    {"repotag": 1.5},
    {"repotag": "library/\ud800:1"},
    {"environmentParameters": ["A=\ud800"]},
    {"environmentParameters": ["A=\0"]},
    {"environmentParameters": [f"F_S_ENV=http://{LONG}.com/env"]},
    {"environmentParameters": ["F_S_ENV=http://xn--a.com/"]},
    {"environmentParameters": ["F_S_ENV=http://ok.com/\ud800"]},
    *({"environmentParameters": [f"F_S_ENV=http://ok.com/{number}"]} for number in range(len(ANSWERS))),
    *({"commands": [f"F_S_CMD=http://ok.com/{number}"]} for number in range(len(ANSWERS))),
    {"environmentParameters": ["F_S_ENV=http://10.0.0.1/"]},
    {"commands": ["\ud800"]},
    {"containerData": "/d|m:\0:/x"},
    {"containerData": "/d|m:\ud800a:/x"},
    {"containerData": "/d|" + "9" * 150 + ":/x"},
    {"containerData": f"/d|m:{'ä' * 90}:/x"},
    {"containerData": 7},
]


@pytest.mark.parametrize("members", FOUND, ids=repr)
def test_what_was_found_once(members: dict[str, Any]) -> None:
    spec = spec_of([members], {})
    try:
        validate({key: value for key, value in spec.items() if key not in ("hash", "height")}, HEIGHT)
    except Rejected:
        pytest.skip("the network does not take it")
    play(spec, live)
    play(spec, question)
