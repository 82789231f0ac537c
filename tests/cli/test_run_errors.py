"""`trionode run`: what is wrong is said at once, in one line, with a documented exit code."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from trionode.chain.conf import DaemonConf
from trionode.cli import exitcodes
from trionode.cli.main import COMMANDS, call
from trionode.config.tree import Settings, StoreSettings
from trionode.errors import StartupError, StoreError
from trionode.hosting.appsnote import NOTE_FILE
from trionode.runtime.logs import tear_down_logs
from trionode.runtime.supervisor import ServiceCrashLoop, StopCutShort
from trionode.store.copymark import MARKER, unfinished
from trionode.store.open import open_stores
from trionode.wire.keys import NodeKey

WIF = "5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ"
HEAVY = ("trio", "quart", "hypercorn", "structlog", "rich", "asyncio", "coincurve", "pymongo")


HOST = f"127.80.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
"""An address that no other process of the tests uses; its ports are none that the system gives to anybody."""
PORT, DAEMON_PORT, BENCH_PORT = 18_127, 18_124, 18_224


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for variable in ("TRIONODE_CONFIG", "FLUXD_CONFIG_PATH"):
        monkeypatch.delenv(variable, raising=False)
    yield
    tear_down_logs()


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """Global options of a node that could start, but for its daemons, which do not run."""
    (tmp_path / "the.key").write_text(WIF)
    (tmp_path / "the.key").chmod(0o600)
    settings = {
        "node.data_dir": str(tmp_path / "data"),
        "node.key_file": str(tmp_path / "the.key"),
        "node.bind_host": HOST,
        "node.api_port": str(PORT),
        "network.allowed_api_ports": str(PORT),
        "chain.daemon_host": HOST,
        "chain.daemon_port": str(DAEMON_PORT),
        "chain.bench_host": HOST,
        "chain.bench_port": str(BENCH_PORT),
        "log.format": "json",
    }
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith("trionode: ")
    assert " - " in error, "a remedy is missing"
    return error


def test_no_node_starts_on_an_unfinished_copy(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def begin_a_copy() -> None:
        async with open_stores(StoreSettings(), tmp_path / "data") as stores:
            await stores.events.put_meta(MARKER, unfinished(()))

    trio.run(begin_a_copy)
    assert call([*options, "run"]) == exitcodes.CANNOT_START
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trionode: ")]
    assert "is an unfinished copy" in line
    assert "trionode store copy" in line


def test_no_node_starts_on_a_database_that_has_forgotten_its_apps(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / NOTE_FILE).write_text('{"store":"MongoDB 10.0.0.9:27017","apps":["Shop","Web"]}')
    assert call([*options, "--set", "hosting.engine=docker", "run"]) == exitcodes.CANNOT_START
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trionode: ")]
    assert "this node had Shop, Web installed in MongoDB 10.0.0.9:27017, and SQLite" in line
    assert "trionode store copy" in line


def test_a_good_set_up_passes(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call([*options, "run", "--check"]) == 0
    out, err = capsys.readouterr()
    assert "ready to start as 1GAehh7TsJAHuUAeKZcXf5CnwuGuGgyX2S (key from" in out
    assert err.count("warning: ") == 2
    assert WIF not in out + err


def full_disk(monkeypatch: pytest.MonkeyPatch, number: int = errno.ENOSPC) -> None:
    """Files can be made, but nothing can be written into them."""

    def write_bytes(path: Path, data: bytes) -> int:
        path.touch()
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", write_bytes)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_is_no_wrong_setting(
    options: list[str],
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    full_disk(monkeypatch, number)
    assert call([*options, "run", "--check"]) == exitcodes.FAILURE, "a service manager starts it again"
    line = error_line(capsys)
    assert os.strerror(number) in line
    assert "set node.data_dir" not in line
    assert list((tmp_path / "data").iterdir()) == [], "a probe is left behind"


def test_a_node_on_a_full_disk_starts_and_says_why_it_waits(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full_disk(monkeypatch)
    begun = []

    async def run_node(*_: object) -> None:
        begun.append(True)

    monkeypatch.setattr("trionode.process.run_node", run_node)
    assert call([*options, "run"]) == 0
    assert begun, "the store waits for space, the checks do not"
    assert "free some space" in capsys.readouterr().err


def test_no_key(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call([*options, "--set", "node.key_file=", "run"]) == exitcodes.CANNOT_START
    assert "there is no node key" in error_line(capsys)


def test_wrong_key(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (WIF[:-1] + "K", "hello", "5" * 51, "K", "\x00"):
        (tmp_path / "the.key").write_text(wrong)
        assert call([*options, "run"]) == exitcodes.CANNOT_START
        line = error_line(capsys)
        assert "is not a valid private key" in line
        assert wrong not in line or len(wrong) < 5


def test_key_of_the_daemon_conf(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = tmp_path / "flux.conf"
    conf.write_text(f"zelnodeprivkey={WIF}\n")
    arguments = [*options, "--set", "node.key_file=", "--set", f"chain.daemon_conf={conf}", "run", "--check"]
    assert call(arguments) == 0
    assert f"key from zelnodeprivkey in {conf}" in capsys.readouterr().out
    conf.unlink()
    assert call(arguments) == exitcodes.CONFIG
    assert "cannot read the daemon configuration" in error_line(capsys)


def test_busy_port(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind((HOST, PORT))
        other.listen()
        assert call([*options, "run"]) == exitcodes.CANNOT_START
    assert f"port {PORT} on {HOST} is in use" in error_line(capsys)


def test_address_of_another_machine(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call([*options, "run", "--bind", "192.0.2.1"]) == exitcodes.CANNOT_START
    assert "192.0.2.1 is not an address of this machine" in error_line(capsys)


def test_unwritable_data_folder(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert call([*options, "run", "--data-dir", str(tmp_path / "file" / "x")]) == exitcodes.CANNOT_START
    assert "cannot write into the data folder" in error_line(capsys)


def test_data_folder_nobody_may_make(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    # not even root may create a folder there
    assert call([*options, "run", "--data-dir", "/proc/trionode"]) == exitcodes.CANNOT_START
    assert "cannot write into the data folder /proc/trionode" in error_line(capsys)


def test_missing_apps_file(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call([*options, "--set", "node.apps_file=/nowhere/apps.toml", "run"]) == exitcodes.CANNOT_START
    assert "there is no apps file /nowhere/apps.toml" in error_line(capsys)


def test_unwritable_log_file(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call([*options, "--set", "log.file=/proc/nowhere/x.log", "run"]) == exitcodes.CANNOT_START
    assert "cannot write the log file" in error_line(capsys)


def test_wrong_configuration(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call([*options, "run", "--api-port", "99999"]) == exitcodes.CONFIG
    assert "node.api_port must be a whole number >= 1 and <= 65535" in error_line(capsys)
    assert call(["--set", "nonsense", "run"]) == exitcodes.CONFIG
    assert "is no assignment" in error_line(capsys)


class FakeNode:
    """Stands in for trionode.process: remembers its settings, then does what it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None) -> None:
        self.settings: Settings | None = None

        async def run_node(settings: Settings, key: NodeKey, conf: DaemonConf) -> None:
            await trio.lowlevel.checkpoint()
            self.settings = settings
            assert key.wif == WIF
            assert conf == DaemonConf()
            logging.getLogger("trionode.node").info("the node is running")
            if error is not None:
                raise error

        module = types.ModuleType("trionode.process")
        module.run_node = run_node  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "trionode.process", module)


def test_absent_daemons_are_told_at_once_and_the_node_starts(
    options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = FakeNode(monkeypatch)
    assert call([*options, "run"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == ["info", "warning", "warning", "info"]
    assert f"the chain daemon at {HOST}:{DAEMON_PORT} " in lines[1]["message"]
    assert "connection refused" in lines[1]["message"]
    assert "waits for it" in lines[1]["message"]
    assert "the benchmark daemon" in lines[2]["message"]
    assert lines[3]["message"] == "the node is running"
    assert node.settings is not None
    assert node.settings.node.bind_host == HOST


def test_daemons_that_listen_are_no_reason_to_warn(
    options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeNode(monkeypatch)
    with socket.socket() as daemon, socket.socket() as bench:
        ports = []
        for listener in (daemon, bench):
            listener.bind((HOST, 0))
            listener.listen()
            ports.append(listener.getsockname()[1])
        extra = ["--set", f"chain.daemon_port={ports[0]}", "--set", f"chain.bench_port={ports[1]}"]
        assert call([*options, *extra, "run"]) == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (StartupError("no luck", remedy="try again"), 4, "trionode: no luck - try again"),
        (StoreError("disk full", remedy="free some"), 1, "trionode: disk full - free some"),
        (ServiceCrashLoop("store crashed", remedy="look"), 6, "trionode: store crashed - look"),
        (StopCutShort("stopped at once", remedy="fine"), 130, "trionode: stopped at once - fine"),
        (
            ExceptionGroup("x", [ExceptionGroup("y", [StartupError("deep", remedy="dig")])]),
            4,
            "trionode: deep - dig",
        ),
        (KeyboardInterrupt(), 130, "trionode: interrupted"),
        (BaseExceptionGroup("x", [KeyboardInterrupt()]), 130, "trionode: interrupted"),
        (ValueError("odd"), 1, "trionode: internal error: ValueError: odd - please report it"),
    ],
)
def test_how_the_node_ended(
    options: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    text: str,
) -> None:
    FakeNode(monkeypatch, error)
    assert call([*options, "run"]) == code
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(text)
    assert any("Traceback" in line for line in lines) == isinstance(error, ValueError)


def test_verbose_shows_the_traceback_of_known_errors_too(
    options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeNode(monkeypatch, StartupError("no luck", remedy="try again"))
    assert call(["-v", *options, "run"]) == exitcodes.CANNOT_START
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.splitlines()[-1] == "trionode: no luck - try again"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["confg"], "there is no command 'confg' - did you mean 'config'?"),
        (["qqq"], "`trionode --help` lists all commands"),
        (["--nope"], "see `trionode --help`"),
        (["version", "--nope"], "see `trionode version --help`"),
        (["config", "check"], "see `trionode config check --help`"),
    ],
)
def test_wrong_use(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(arguments) == exitcodes.USAGE
    assert text in error_line(capsys)


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], [], ["run", "-h"]):
        assert call(arguments) == 0
        assert "Usage: trionode" in capsys.readouterr().out
    assert call(["--version"]) == 0
    assert capsys.readouterr().out.startswith("trionode ")
    assert call(["version", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert set(facts) == {"version", "compatibility_version", "python", "system"}


def test_help_imports_no_subcommand_and_main_nothing_heavy() -> None:
    code = (
        "import sys\nimport trionode.cli.main as m\n"
        f"heavy = set({HEAVY!r}) & set(sys.modules)\nassert not heavy, heavy\n"
        "m.call(['--help'])\nm.call(['version'])\n"
        f"heavy = set({HEAVY!r}) & set(sys.modules)\nassert not heavy, heavy\n"
        "assert 'trionode.cli.run' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout


def test_output_into_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m trionode config show | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "[node]\n0\n"
    assert done.stderr == ""
