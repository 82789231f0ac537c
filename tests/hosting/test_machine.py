"""The machine's signs: files, commands that answer, fail, hang or are not there."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest
import trio

from trionode.config.tree import SystemSettings
from trionode.hosting.machine import SystemCommands, SystemMachine
from trionode.lifecycle.local import Container
from trionode.lifecycle.shutdown import COMMAND_SIGNS, FileSign, goodbye, signs, to_stop


def machine(folder: Path, **changes: object) -> SystemMachine:
    settings = SystemSettings(
        boot_id_file=str(folder / "boot-id"),
        shutdown_marker_files=(str(folder / "scheduled"), str(folder / "nologin")),
        shutdown_commands=False,
    )
    return SystemMachine(msgspec.structs.replace(settings, **changes))


@pytest.mark.parametrize(
    ("content", "found"), [(b"boot-A\n", "boot-A"), (b" \n", None), (b"\xff\xfe", None), (None, None)]
)
def test_the_boot_id_is_the_trimmed_file(tmp_path: Path, content: bytes | None, found: str | None) -> None:
    if content is not None:
        (tmp_path / "boot-id").write_bytes(content)
    assert machine(tmp_path).boot_id() == found


def test_this_machine_has_a_boot_id() -> None:
    assert SystemMachine(SystemSettings()).boot_id() is not None or sys.platform != "linux"


@pytest.mark.trio
@pytest.mark.parametrize(("name", "down"), [("scheduled", True), ("nologin", True), ("other", False)])
async def test_each_file_is_a_sign(tmp_path: Path, name: str, down: bool) -> None:
    (tmp_path / name).touch()
    assert await machine(tmp_path).is_going_down() is down


@pytest.mark.trio
async def test_the_real_commands_answer_something(tmp_path: Path) -> None:
    with trio.fail_after(120):
        await machine(tmp_path, shutdown_commands=True).is_going_down()


@pytest.mark.trio
async def test_what_a_command_prints_counts_whatever_its_exit_code() -> None:
    said = [sys.executable, "-c", "print('stopping'); raise SystemExit(3)"]
    assert await SystemCommands().output(said, 120) == "stopping\n"


@pytest.mark.trio
async def test_a_command_that_is_not_there_says_nothing() -> None:
    assert await SystemCommands().output(["trionode-no-such-command"], 30) == ""


@pytest.mark.trio
async def test_a_command_that_hangs_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    hanging = [sys.executable, "-c", "import time; time.sleep(600)"]
    with trio.fail_after(120):
        assert await SystemCommands().output(hanging, 0.3) == ""
    assert "was not answered" in caplog.text


def test_the_order_of_the_signs_is_that_of_the_original() -> None:
    found = signs(("a", "b"))
    assert found == (FileSign("a"), *COMMAND_SIGNS, FileSign("b"))
    assert signs((), commands=False) == ()


def test_only_running_containers_of_apps_are_stopped() -> None:
    found = [Container("fluxa_b", "running"), Container("nginx", "running"), Container("zelc", "exited")]
    assert to_stop(found) == ("fluxa_b",)
    assert goodbye(running_apps=0, own_address="1.2.3.4", now_ms=1) is None
