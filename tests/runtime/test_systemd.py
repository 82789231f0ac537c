"""What a service manager is told, over a real datagram socket; the unit file as systemd sees it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from trionode.devnet.network import local_network
from trionode.runtime.systemd import STATUS_INTERVAL_S, ServiceManager

UNIT = Path(__file__).parents[2] / "test-infra" / "systemd" / "trionode.service"


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """The manager's end, and its address."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        receiver.setblocking(False)
        yield receiver, address


def heard(receiver: socket.socket) -> list[list[str]]:
    """The lines of every datagram that is there."""
    found = []
    while True:
        try:
            found.append(receiver.recv(4096).decode().split("\n"))
        except BlockingIOError:
            return found


@pytest.mark.trio
async def test_the_loop_feeds_the_watchdog_and_changed_status_is_told_once(
    autojump_clock: MockClock, listener: tuple[socket.socket, str]
) -> None:
    receiver, address = listener
    status = ["SYNCING,\n 3 peers"]
    env = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}
    manager = ServiceManager.from_environment(env, os.getpid(), status=lambda: status[0])
    async with trio.open_nursery() as nursery:
        await nursery.start(manager.run)
        await trio.testing.wait_all_tasks_blocked()
        assert heard(receiver) == [["WATCHDOG=1", "STATUS=SYNCING, 3 peers"]]
        await trio.sleep(61)
        assert heard(receiver) == [["WATCHDOG=1"], ["WATCHDOG=1"]]
        status[0] = "READY"
        manager.ready()
        assert heard(receiver) == [["READY=1", "STATUS=READY"]]
        manager.stopping("SIGTERM")
        manager.more_time(12)
        assert heard(receiver) == [
            ["STOPPING=1", "STATUS=stopping: SIGTERM"],
            ["EXTEND_TIMEOUT_USEC=12000000"],
        ]
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_without_a_watchdog_only_news_are_told(
    autojump_clock: MockClock, listener: tuple[socket.socket, str]
) -> None:
    receiver, address = listener
    env = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}
    manager = ServiceManager.from_environment(env, os.getpid(), status=lambda: "READY")
    assert manager.interval_s == STATUS_INTERVAL_S, "that watchdog is another process's"
    async with trio.open_nursery() as nursery:
        await nursery.start(manager.run)
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert heard(receiver) == [["STATUS=READY"]]


@pytest.mark.parametrize("micros", ["", "0", "-1", "soon", "²"])
def test_a_watchdog_that_makes_no_sense_is_none(micros: str) -> None:
    manager = ServiceManager.from_environment({"WATCHDOG_USEC": micros}, 1)
    assert manager.interval_s == STATUS_INTERVAL_S


def test_an_abstract_address(caplog: pytest.LogCaptureFixture) -> None:
    name = f"trionode-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + name)
        ServiceManager("@" + name).ready()
        assert receiver.recv(100) == b"READY=1"


def test_nobody_listening_is_no_trouble_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manager = ServiceManager(str(tmp_path / "nobody"))
    manager.ready()
    manager.ready()
    assert len([record for record in caplog.records if "cannot be told" in str(record.msg)]) == 1
    ServiceManager(None).ready()
    assert len(caplog.records) == 1


def test_a_full_socket_neither_holds_up_the_loop_nor_loses_what_matters(
    listener: tuple[socket.socket, str],
) -> None:
    receiver, address = listener
    manager = ServiceManager(address)
    # How much a socket holds is the system's setting.
    while not manager._unsent:
        manager.tell("WATCHDOG=1")
    manager.ready()
    manager.stopping("SIGTERM")
    manager.stopping("SIGINT")
    assert ["READY=1"] not in heard(receiver)
    manager.tell()
    assert heard(receiver) == [["WATCHDOG=1", "READY=1", "STOPPING=1", "STATUS=stopping: SIGINT"]]
    manager.tell()
    assert heard(receiver) == []


@pytest.mark.process
@pytest.mark.trio
async def test_a_node_tells_when_it_is_ready_and_when_it_stops(
    tmp_path: Path, listener: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, address = listener
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    lines: list[str] = []

    async def listen() -> None:
        """All the time: few datagrams wait in a socket, and a node does not wait for room."""
        while True:
            await trio.lowlevel.wait_readable(receiver)
            for found in heard(receiver):
                lines.extend(found)

    async def until(wanted: str) -> None:
        with trio.fail_after(120):
            while wanted not in lines:  # noqa: ASYNC110 - another process sends no event
                await trio.sleep(0.02)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        async with local_network(tmp_path / "net", 1, offset=235) as network:
            await until("READY=1")
            assert any(line.startswith("STATUS=INITIALIZING, 0 peers") for line in lines)
            lines.clear()
            await until("WATCHDOG=1")
            await network.stop(1)
            await until("STOPPING=1")
            assert "STATUS=stopping: SIGTERM" in lines
        nursery.cancel_scope.cancel()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text("utf-8").replace("/opt/trionode/bin/trionode", sys.executable)
    unit = tmp_path / UNIT.name
    unit.write_text(text, "utf-8")
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False, timeout=250
    )
    complaints = [line for line in checked.stderr.splitlines() if UNIT.name in line]
    assert complaints == []
    assert checked.returncode == 0, checked.stderr


def test_the_unit_stops_before_the_engine_and_gives_a_stop_its_time() -> None:
    text = UNIT.read_text("utf-8")
    settings = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and line[0] != "#")
    assert {"docker.service", "dbus.service"} <= set(settings["After"].split())
    assert settings["Type"] == "notify"
    assert float(settings["TimeoutStopSec"]) > 13
    assert settings["RestartPreventExitStatus"].split() == ["2", "3", "4"]
