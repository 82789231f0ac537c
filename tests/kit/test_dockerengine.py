"""The engine of the kit starts, restarts, survives its kill, and leaves nothing of itself behind."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from pathlib import Path

import firewall
import leaks
import pytest
from busyboximages import CRASH, WEB, import_image
from dockerengine import DockerEngine, EngineFailedError, TestEngine, is_alive, others, start_engine
from engineapi import EngineAnswerError, EngineApi
from enginefixtures import *  # noqa: F403 - fixtures are found by name
from leaks import LeakWatch

pytestmark = pytest.mark.process

IMAGE = "kit/web:1"


@pytest.fixture
def image(engine: TestEngine) -> str:
    import_image(engine.api, IMAGE, cmd=WEB, expose=[80])
    return IMAGE


def mounts() -> list[str]:
    return [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]


def test_two_containers_find_each_other_by_name_and_publish_on_loopback(
    nothing_left: LeakWatch, engine_api: EngineApi, image: str
) -> None:
    api = engine_api
    config = [{"Subnet": "172.23.241.0/24", "Gateway": "172.23.241.1"}]
    net = api.call("POST", "/networks/create", body={"Name": "kitnet", "IPAM": {"Config": config}})["Id"]
    host = {
        "NetworkMode": "kitnet",
        "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.9", "HostPort": "31999"}]},
    }
    api.run("kitone", image, HostConfig=host)
    api.run(
        "kittwo", image, HostConfig={"NetworkMode": "kitnet", "Memory": 64 << 20, "NanoCpus": 500_000_000}
    )
    # It may not listen yet.
    asking = "until wget -qO- http://kitone/ 2>/dev/null; do sleep 0.1; done"
    assert api.exec("kittwo", ["sh", "-c", asking]) == (0, "hello\n")
    seen = subprocess.run(["busybox", "wget", "-qO-", "http://127.0.0.9:31999/"], capture_output=True)
    assert seen.stdout == b"hello\n"
    assert api.container_names() >= {"kitone", "kittwo"}
    left = nothing_left.difference()
    assert [line.split()[:2] for line in left].count(["left:", "container"]) == 2
    assert any("172.23.241.0/24" in line and "firewall rule" in line for line in left)
    api.heeds_sigterm("kitone")
    api.stop("kitone", 20)
    assert api.inspect("kitone")["State"]["ExitCode"] == 0
    for name in ("kitone", "kittwo"):
        api.remove(name)
    api.remove_network(net)


def test_an_image_says_whether_it_is_healthy_and_how_it_ends(
    nothing_left: LeakWatch, engine_api: EngineApi
) -> None:
    import_image(engine_api, "kit/crash:1", cmd=CRASH, env={"COLOUR": "blue"}, healthcheck="true")
    made = engine_api.call("GET", "/images/kit/crash:1/json")
    assert made["Size"] < 3_000_000
    assert made["Config"]["Healthcheck"]["Test"] == ["CMD-SHELL", "true"]
    assert "COLOUR=blue" in made["Config"]["Env"]
    # Without its patient entry point, which ends with 0 whatever happens to its child when asked to.
    engine_api.run("kitcrash", "kit/crash:1")
    engine_api.call("POST", "/containers/kitcrash/wait")
    assert engine_api.inspect("kitcrash")["State"]["ExitCode"] == 3
    assert engine_api.logs("kitcrash") == "about to fail\n"
    engine_api.remove("kitcrash")
    engine_api.remove_image("kit/crash:1")


def test_what_a_failed_test_left_does_not_meet_the_next(
    engine_api: EngineApi, image: str, tmp_path: Path
) -> None:
    watch = LeakWatch(engine_api, folders=[tmp_path])
    engine_api.call("POST", "/networks/create", body={"Name": "kitnet"})
    engine_api.call("POST", "/volumes/create", body={"Name": "kitvolume"})
    engine_api.run("kitleft", image, HostConfig={"NetworkMode": "kitnet"})
    subprocess.run(["iptables", "-w", "-A", "OUTPUT", "-d", "127.99.0.2", "-j", "ACCEPT"], check=True)
    disk, point = tmp_path / "volume.img", tmp_path / "point"
    point.mkdir()
    with disk.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    subprocess.run(["mount", "-o", "loop", disk, point], check=True)
    assert len(watch.difference()) > 5
    watch.clean_up()
    assert watch.settled() == []


def test_everything_that_is_left_is_named(engine_api: EngineApi, engine_turn: None, tmp_path: Path) -> None:
    watch = LeakWatch(engine_api, folders=[tmp_path])
    units = tmp_path / "units"
    units.mkdir()
    watch.files(units)
    image, point = tmp_path / "volume.img", tmp_path / "point"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, point], check=True)
    (units / "app.mount").write_text("[Mount]\n")
    engine_api.call("POST", "/volumes/create", body={"Name": "kitvolume"})
    subprocess.run(["iptables", "-w", "-A", "OUTPUT", "-d", "127.99.0.1", "-j", "ACCEPT"], check=True)
    try:
        kinds = sorted(" ".join(line.split()[1:3]) for line in watch.difference())
    finally:
        subprocess.run(["iptables", "-w", "-D", "OUTPUT", "-d", "127.99.0.1", "-j", "ACCEPT"], check=True)
        subprocess.run(["umount", point], check=True)
        engine_api.remove_volume("kitvolume")
    assert [kind.split()[0] for kind in kinds] == ["file", "firewall", "loop", "mount", "volume"]
    (units / "app.mount").unlink()
    assert watch.settled() == []


def test_what_other_nodes_have_in_the_crontab_is_not_ours(
    engine_api: EngineApi, engine_turn: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["@reboot mount -o loop /elsewhere/a /elsewhere/b"]
    monkeypatch.setattr(leaks, "_crontab", lambda: lines)
    watch = LeakWatch(engine_api, folders=[tmp_path])
    lines.append(f"@reboot mount -o loop {tmp_path}/a {tmp_path}/b")
    assert watch.difference() == [f"left: crontab line {lines[1]}"]
    lines[:] = ["@reboot mount -o loop /elsewhere/c /elsewhere/d"]
    assert watch.difference() == []


@pytest.mark.trio
async def test_an_engine_restarts_and_is_killed_and_leaves_nothing(engine_turn: None) -> None:
    before = firewall.rules()
    folder = Path(tempfile.mkdtemp(prefix="tt-", dir="/tmp"))
    async with start_engine(folder) as engine:
        import_image(engine.api, IMAGE, cmd=WEB)
        engine.api.run("kitstays", IMAGE, HostConfig={"NetworkMode": "bridge"})
        await engine.restart_async()
        assert engine.api.inspect("kitstays")["State"]["Running"] is False
        engine.api.start("kitstays")
        outlives = engine.api.inspect("kitstays")["State"]["Pid"]
        await engine.kill_async()
        assert not engine.api.ping()
        assert is_alive(outlives)
        await engine.start_async()
        assert "kitstays" in engine.api.container_names()
        engine.api.start("kitstays")
        await engine.kill_async()
    assert not os.path.exists(folder)  # noqa: ASYNC240
    assert not is_alive(outlives)
    # Others may run engines of their own beside this one.
    assert engine.bridge not in {name for _, name in socket.if_nameindex()}
    assert [line for line in mounts() if str(folder) in line] == []
    now = firewall.rules()
    assert [rule for rule in now if engine.bridge in rule] == []
    if not others():
        assert set(now) <= set(before)


def test_an_engine_that_cannot_start_says_what_its_log_says(private_engine: DockerEngine) -> None:
    broken = DockerEngine(private_engine.folder, "--storage-driver", "nonsense")
    with pytest.raises(EngineFailedError, match="nonsense"):
        broken.start()


def test_an_error_of_the_engine_says_which_call(engine_api: EngineApi) -> None:
    with pytest.raises(EngineAnswerError, match=r"GET /containers/absent/json: 404 .*absent") as caught:
        engine_api.inspect("absent")
    assert caught.value.status == 404


def test_a_paused_engine_does_not_answer(own_engine: DockerEngine) -> None:
    for _ in range(20):
        own_engine.pause()
        with pytest.raises(TimeoutError):
            own_engine.api.raw("GET", "/_ping", timeout_s=0.05)
        own_engine.resume()
        assert own_engine.api.ping()
