"""Containers: what every engine behind the Engine port does the same (docs/spec/lifecycle.md §13)."""

from __future__ import annotations

import pytest
import trio
from engineworld import APP, KEEPER, NETWORK, World, options

from trionode.containers.engine import Conflict, EngineError, NotFound
from trionode.plans.containerdata import Bind

pytestmark = pytest.mark.trio

NAME = f"fluxweb_{APP}"
NOBODY = "fluxnobody_contractapp"
WITHIN_S = 120


async def state_of(world: World, name: str = NAME) -> str:
    return next((row.state for row in await world.engine.containers() if row.name == name), "")


async def run(world: World, **more: object) -> str:
    made = await world.engine.create(options(**more))
    await world.engine.start(made)
    await world.heeds(made)
    return made


async def test_a_created_container_is_listed_with_its_labels_and_does_not_run(networked: World) -> None:
    made = await networked.engine.create(options(labels=(("flux.burst.cores", "2"),)))
    row = next(row for row in await networked.engine.containers() if row.name == NAME)
    assert row.id == made
    assert (row.state, row.status, row.ports) == ("created", "Created", ())
    assert row.labels["trionode.app"] == APP
    assert row.labels["trionode.component"] == f"web_{APP}"
    assert row.labels["flux.burst.cores"] == "2"
    assert row.image == options().image
    assert row.created_s > 1_600_000_000
    assert not row.is_unhealthy


async def test_start_and_stop(networked: World) -> None:
    made = await run(networked)
    row = next(row for row in await networked.engine.containers() if row.id == made)
    assert row.state == "running"
    assert row.status.startswith("Up ")
    looked = await networked.engine.inspect(NAME)
    assert (looked.state, looked.finished_ms, looked.exit_code) == ("running", None, 0)
    assert looked.pid > 0
    assert looked.started_ms is not None
    await networked.engine.stop(NAME, WITHIN_S)
    looked = await networked.engine.inspect(NAME)
    assert (looked.state, looked.pid) == ("exited", 0)
    assert looked.finished_ms is not None
    assert looked.finished_ms >= (looked.started_ms or 0)
    row = next(row for row in await networked.engine.containers() if row.id == made)
    assert row.status.startswith("Exited (0) ")


async def test_start_stop_and_kill_again_change_nothing(networked: World) -> None:
    await networked.engine.create(options())
    await networked.engine.stop(NAME, 1)
    await networked.engine.kill(NAME)
    assert await state_of(networked) == "created"
    await networked.engine.start(NAME)
    first = await networked.engine.inspect(NAME)
    await networked.engine.start(NAME)
    again = await networked.engine.inspect(NAME)
    assert (again.pid, again.started_ms) == (first.pid, first.started_ms)
    await networked.engine.kill(NAME)
    await networked.engine.kill(NAME)
    await networked.engine.stop(NAME, 1)
    looked = await networked.engine.inspect(NAME)
    assert (looked.state, looked.exit_code) == ("exited", 137)


async def test_one_that_ended_starts_again(networked: World) -> None:
    await run(networked)
    await networked.engine.kill(NAME)
    await networked.engine.start(NAME)
    looked = await networked.engine.inspect(NAME)
    assert (looked.state, looked.exit_code) == ("running", 0)
    # When it ended last is told all the same.
    assert looked.finished_ms is not None


async def test_one_that_ends_by_itself_leaves_its_exit_code(networked: World) -> None:
    async with networked.engine.events() as events:
        wanted = networked.ending(options(), 3)
        await networked.engine.create(wanted)
        await networked.engine.start(NAME)
        with trio.fail_after(WITHIN_S):
            async for event in events:
                if event.action == "die":
                    assert event.exit_code == 3
                    break
    looked = await networked.engine.inspect(NAME)
    assert (looked.state, looked.exit_code, looked.oom_killed) == ("exited", 3, False)


async def test_inspect_shows_what_was_asked_for(networked: World, tmp_path: object) -> None:
    source = str(tmp_path)
    await networked.engine.create(
        options(
            environment=("WORD=one two", "EMPTY="),
            command=("sleep", "1000"),
            binds=(Bind(source, "/data"),),
            ports=((80, 31_007),),
            disk_limit_gb=None,
        )
    )
    looked = await networked.engine.inspect(NAME)
    document = looked.document
    assert (looked.name, looked.state, looked.image) == (NAME, "created", options().image)
    assert looked.nano_cpus == 250_000_000
    assert looked.labels["trionode.app"] == APP
    assert looked.mounts == (source,)
    assert (looked.started_ms, looked.finished_ms, looked.health) == (None, None, "")
    assert {"WORD=one two", "EMPTY=", "FROM_IMAGE=1"} <= set(document["Config"]["Env"])
    assert document["Config"]["Cmd"] == ["sleep", "1000"]
    assert document["Config"]["Hostname"] == "web"
    assert set(document["Config"]["ExposedPorts"]) == {"80/tcp", "80/udp", "31007/tcp", "31007/udp"}
    host = document["HostConfig"]
    assert host["Memory"] == 32 << 20
    assert host["MemorySwap"] == (32 + 2000) << 20
    assert host["NanoCpus"] == 250_000_000
    assert host["RestartPolicy"]["Name"] == "no"
    assert host["NetworkMode"] == NETWORK
    assert host["ExtraHosts"] == ["fluxnode.service:169.254.43.43"]
    assert host["LogConfig"]["Type"] == "json-file"
    assert [one["HostPort"] for one in host["PortBindings"]["80/udp"]] == ["31007"]
    assert host["Ulimits"][0]["Name"] == "nofile"
    mount = document["Mounts"][0]
    assert (mount["Type"], mount["Source"], mount["Destination"], mount["RW"]) == (
        "bind",
        source,
        "/data",
        True,
    )
    assert document["Name"] == f"/{NAME}"
    assert document["State"]["Status"] == "created"


async def test_without_a_command_the_image_says_what_to_run(networked: World) -> None:
    await run(networked)
    row = next(row for row in await networked.engine.containers() if row.name == NAME)
    assert row.command.endswith("sleep 100000")


async def test_the_name_can_be_used_once(networked: World) -> None:
    first = await networked.engine.create(options())
    with pytest.raises(Conflict):
        await networked.engine.create(options())
    assert (await networked.engine.inspect(NAME)).id == first


async def test_a_container_needs_its_image_and_its_folders(networked: World, tmp_path: object) -> None:
    with pytest.raises(NotFound, match="nowhere:1"):
        await networked.engine.create(options(image="contract/nowhere:1"))
    missing = f"{tmp_path}/missing"
    twin = getattr(networked, "twin", None)
    if twin is not None:
        twin.missing_paths.add(missing)
    with pytest.raises(EngineError, match="bind source path does not exist"):
        await networked.engine.create(options(binds=(Bind(missing, "/data"),)))
    assert await state_of(networked) == ""


async def test_secrets_are_not_in_errors(networked: World) -> None:
    with pytest.raises(EngineError) as caught:
        await networked.engine.create(options(image="contract/nowhere:1", environment=("=hidden-word",)))
    assert "hidden-word" not in f"{caught.value!r} {caught.value} {caught.value.one_line()}"
    assert "hidden-word" not in repr(options(environment=("A=hidden-word",)))


async def test_remove(networked: World) -> None:
    await run(networked)
    with pytest.raises(Conflict):
        await networked.engine.remove(NAME)
    assert await state_of(networked) == "running"
    await networked.engine.remove(NAME, force=True)
    assert await state_of(networked) == ""
    with pytest.raises(NotFound):
        await networked.engine.remove(NAME, force=True)


async def test_volumes_go_only_when_asked(networked: World) -> None:
    before = {volume.name for volume in await networked.engine.volumes()}

    async def new() -> set[str]:
        return {volume.name for volume in await networked.engine.volumes()} - before

    await networked.engine.create(options(image=KEEPER))
    (volume,) = await new()
    assert (await networked.engine.inspect(NAME)).mounts == (volume,)
    with pytest.raises(Conflict):
        await networked.engine.remove_volume(volume)
    await networked.engine.remove(NAME)
    assert await new() == {volume}
    await networked.engine.remove_volume(volume)
    assert await new() == set()
    with pytest.raises(NotFound):
        await networked.engine.remove_volume(volume)
    await networked.engine.create(options(image=KEEPER))
    await networked.engine.remove(NAME, volumes=True)
    assert await new() == set()


async def test_pause(networked: World) -> None:
    engine = networked.engine
    await engine.create(options())
    with pytest.raises(Conflict):
        await engine.pause(NAME)
    await engine.start(NAME)
    await networked.heeds(NAME)
    with pytest.raises(Conflict):
        await engine.unpause(NAME)
    await engine.pause(NAME)
    assert await state_of(networked) == "paused"
    with pytest.raises(Conflict):
        await engine.pause(NAME)
    with pytest.raises(Conflict):
        await engine.start(NAME)
    await engine.unpause(NAME)
    assert await state_of(networked) == "running"
    await engine.pause(NAME)
    await engine.stop(NAME, 3)
    assert await state_of(networked) == "exited"


async def test_nothing_can_be_done_to_a_container_that_is_not_there(world: World) -> None:
    engine = world.engine
    for call in (
        engine.inspect,
        engine.start,
        engine.kill,
        engine.pause,
        engine.unpause,
        engine.remove,
        engine.top,
        engine.changes,
        engine.stats,
    ):
        with pytest.raises(NotFound):
            await call(NOBODY)
    with pytest.raises(NotFound):
        await engine.stop(NOBODY, 1)
    for stream in (engine.logs(NOBODY), engine.stats_stream(NOBODY), engine.exec(NOBODY, ["true"])):
        with pytest.raises(NotFound):
            async with stream:
                pass


async def test_a_container_without_its_network_does_not_start(world: World) -> None:
    await world.engine.create(options())
    with pytest.raises(NotFound, match="network"):
        await world.engine.start(NAME)
    assert await state_of(world) == "created"
    await world.engine.remove(NAME)


async def test_ports_are_published_and_taken_once(networked: World) -> None:
    engine, port = networked.engine, networked.free_port()
    other = f"fluxother_{APP}"
    await engine.create(options(ports=((8080, port),)))
    await engine.create(options(other, ports=((8080, port),)))
    await engine.start(NAME)
    rows = {row.name: row for row in await engine.containers()}
    published = {(one.private, one.public, one.protocol) for one in rows[NAME].ports if one.public}
    assert published == {(8080, port, "tcp"), (8080, port, "udp")}
    with pytest.raises(EngineError, match="already allocated"):
        await engine.start(other)
    assert await state_of(networked, other) == "created"
    assert other not in (await engine.network(NETWORK)).endpoints
    await engine.kill(NAME)
    await engine.start(other)
    assert await state_of(networked, other) == "running"


async def test_details_do_not_show_the_environment_by_accident(networked: World) -> None:
    await networked.engine.create(options(environment=("WORD=hidden-word",)))
    assert "hidden-word" not in repr(await networked.engine.inspect(NAME))


async def test_containers_are_found_by_id_too(networked: World) -> None:
    made = await run(networked)
    assert (await networked.engine.inspect(made)).name == NAME
    assert (await networked.engine.inspect(made[:12])).name == NAME
    await networked.engine.stop(made, 2)
    await networked.engine.remove(made)


async def test_nothing_is_started_by_the_engine_itself(networked: World) -> None:
    made = await networked.engine.create(options())
    assert (await networked.engine.inspect(made)).restarts == "no"
    await networked.other_policy(NAME)
    assert (await networked.engine.inspect(made)).restarts == "always"
    await networked.engine.never_restart(NAME)
    assert (await networked.engine.inspect(made)).restarts == "no"
    with pytest.raises(NotFound):
        await networked.engine.never_restart(NOBODY)


async def test_the_size_of_a_root_file_system_grows_with_what_is_written(networked: World) -> None:
    await run(networked)
    before_bytes = await networked.engine.root_bytes(NAME)
    assert before_bytes > 0
    await networked.write_megabytes(NAME, 3)
    grown_bytes = await networked.engine.root_bytes(NAME) - before_bytes
    assert 3 << 20 <= grown_bytes < 4 << 20
    with pytest.raises(NotFound):
        await networked.engine.root_bytes(NOBODY)
