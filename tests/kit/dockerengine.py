"""A real Docker engine of the tests' own: dockerd with its own folders, socket, bridge and address pool.

Several live side by side, also beside a system dockerd. An engine is stopped by its process id, and what it
made of the machine (bridge, firewall rules, mounts, loop devices, cgroups of its containers) goes with it.
`TRIONODE_TEST_ENGINE` names a socket (unix:///...) that is used instead of starting one.
`python tests/kit/dockerengine.py COMMAND...` runs a command (`.ci/run`: all tests) with an engine named so.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import FrameType

import firewall
import msgspec
import trio
from engineapi import EngineAnswerError, EngineApi

SHARED_ENGINE = "TRIONODE_TEST_ENGINE"
SHARED_ENGINE_LOG = "TRIONODE_TEST_ENGINE_LOG"
NEEDED = "CONTAINER_ENGINE_NEEDED"
START_WITHIN_S = 180.0
STOP_WITHIN_S = 120.0
LOG_TAIL_BYTES = 6_000
SLOTS = 250
"""So many engines have addresses of their own."""


class EngineFailedError(Exception):
    """The engine did not start or stop; says what its log said."""


class TestEngine(msgspec.Struct, frozen=True):
    """Where an engine answers. `folder` is where its data lives, `log` what it writes (if known)."""

    __test__ = False

    url: str
    folder: Path | None = None
    log: Path | None = None

    @property
    def socket_path(self) -> Path:
        return Path(self.url.removeprefix("unix://"))

    @property
    def api(self) -> EngineApi:
        return EngineApi(self.socket_path)

    def log_tail(self, since_byte: int = 0) -> str:
        """The last of what the engine wrote, for a failure report."""
        if self.log is None or not self.log.exists():
            return ""
        content = self.log.read_bytes()[since_byte:]
        return content[-LOG_TAIL_BYTES:].decode(errors="replace")


def why_not() -> str | None:
    """Why no engine can be started here, None when one can."""
    if os.environ.get(SHARED_ENGINE):
        return None
    if shutil.which("dockerd") is None:
        return "dockerd is not installed (Debian: apt-get install docker.io)"
    if os.geteuid() != 0:
        return "dockerd needs root"
    return None


class DockerEngine:
    """One dockerd in `folder` (a short path: it holds unix sockets). All but the `_async` calls block."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._rules_before: list[str] | None = None
        number = int.from_bytes(hashlib.sha256(str(folder).encode()).digest()[:4])
        self.bridge = f"tt{number:08x}"
        self._slot = number % SLOTS

    @property
    def _subnet(self) -> str:
        return f"10.213.{self._slot}"

    @property
    def _pool(self) -> str:
        return f"10.214.{self._slot}.0/24"

    @property
    def at(self) -> TestEngine:
        return TestEngine(f"unix://{self.folder}/docker.sock", self.folder, self.folder / "log")

    @property
    def api(self) -> EngineApi:
        return self.at.api

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Starts dockerd and returns when it answers."""
        assert self.pid is None, "it runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._rules_before is None:
            self._rules_before = firewall.rules()
        self._make_bridge()
        command = ["dockerd", "--host", self.at.url, "--bridge", self.bridge]
        command += ["--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec"]
        command += ["--pidfile", f"{self.folder}/pid", "--default-address-pool", f"base={self._pool},size=28"]
        # Names of one engine in a containerd of the system must not meet those of another.
        command += [
            "--containerd-namespace",
            self.bridge,
            "--containerd-plugins-namespace",
            f"{self.bridge}p",
        ]
        # No question of a container leaves this machine: nobody answers at this address inside of it.
        command += ["--dns", "127.0.0.1", "--shutdown-timeout", "3", *self._options]
        # After a kill -9 these are left behind, and the next start would refuse or wait.
        (self.folder / "pid").unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/", start_new_session=True
            )
        deadline = time.monotonic() + START_WITHIN_S
        while not self.api.ping():
            if self._process.poll() is not None:
                raise EngineFailedError(f"dockerd ended at its start:\n{self.at.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise EngineFailedError(f"dockerd did not answer:\n{self.at.log_tail()}")
            time.sleep(0.02)

    def halt(self) -> None:
        """Ends dockerd in the orderly way; what it keeps on disk stays, its containers are stopped."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """kill -9: containers run on without it until it starts again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._end_containerd()

    def pause(self) -> None:
        """Freezes dockerd (SIGSTOP): it accepts connections and answers nothing. Returns when it stands."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            # A thread on another core may finish an answer first; the kernel says when the last stopped.
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Ends a pause."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """As `systemctl restart docker`: containers end, and come back by their restart policy only."""
        self.halt()
        self.start()

    def remove(self) -> None:
        """Ends the engine and takes away everything that it made; `folder` goes too."""
        try:
            if self._process is None and (self.folder / "data").exists():
                # Only the engine can end the containers that outlived its kill.
                self.start()
            self.resume()
            if self.pid is not None:
                self.api.remove_everything()
        except (OSError, EngineAnswerError) as error:
            raise EngineFailedError(f"cannot be emptied: {error}\n{self.at.log_tail()}") from error
        finally:
            self.halt()
            self._end_shims()
            self._unmount()
            subprocess.run(["ip", "link", "delete", self.bridge], capture_output=True, check=False)
            self._remove_rules()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def start_async(self) -> None:
        await trio.to_thread.run_sync(self.start)

    async def kill_async(self) -> None:
        await trio.to_thread.run_sync(self.kill)

    async def halt_async(self) -> None:
        await trio.to_thread.run_sync(self.halt)

    async def restart_async(self) -> None:
        await trio.to_thread.run_sync(self.restart)

    def _end_containerd(self) -> None:
        # It dies with its dockerd. Where the first process of the machine does not bury the dead, the next
        # dockerd would take what is left in the process table for a containerd that runs.
        pid_file = self.folder / "exec/containerd/containerd.pid"
        if not pid_file.exists():
            return
        pid = int(pid_file.read_text().strip() or 0)
        deadline = time.monotonic() + STOP_WITHIN_S
        while is_alive(pid):
            if time.monotonic() > deadline:
                raise EngineFailedError("containerd lives on without its dockerd")
            time.sleep(0.01)
        pid_file.unlink()

    def _end_shims(self) -> None:
        # Only after an engine that could not be emptied: its containers and their guards, by our folder.
        for pid in _processes():
            words = _read(Path(f"/proc/{pid}/cmdline")).split("\0")
            if "containerd-shim" in words[0] and f"{self.folder}/exec/containerd/containerd.sock" in words:
                for child in _children(pid):
                    _kill(child)
                _kill(pid)

    def _make_bridge(self) -> None:
        # Not by /sys, which in another network namespace still shows the first one.
        if self.bridge in {name for _, name in socket.if_nameindex()}:
            return
        self._slot = self._free_slot()
        subprocess.run(["ip", "link", "add", self.bridge, "type", "bridge"], check=True)
        subprocess.run(["ip", "addr", "add", f"{self._subnet}.1/24", "dev", self.bridge], check=True)
        subprocess.run(["ip", "link", "set", self.bridge, "up"], check=True)

    def _free_slot(self) -> int:
        # Another engine, or the machine itself, may have addresses there.
        shown = subprocess.run(
            ["ip", "-o", "-4", "address"], capture_output=True, text=True, check=True
        ).stdout
        taken = {int(found) for found in re.findall(r"\b10\.21[34]\.(\d+)\.", shown)}
        after = ((self._slot + more) % SLOTS for more in range(SLOTS))
        return next(slot for slot in after if slot not in taken)

    def _unmount(self) -> None:
        points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for point in sorted((p for p in points if p.startswith(f"{self.folder}/")), key=len, reverse=True):
            subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)

    def _remove_rules(self) -> None:
        before = set(self._rules_before or ())
        new = [line for line in firewall.rules() if line not in before]
        # With another engine alive the common chains are its chains too.
        firewall.remove(firewall.naming(new, [self.bridge, f"{self._subnet}.0/24"]) if others() else new)


def others() -> list[int]:
    """Process ids of all dockerd that see the same network as this process."""
    here = Path("/proc/self/ns/net").readlink()
    found = []
    for pid in _processes():
        if _read(Path(f"/proc/{pid}/comm")).strip() == "dockerd":
            try:
                if Path(f"/proc/{pid}/ns/net").readlink() == here:
                    found.append(pid)
            except OSError:
                continue  # it ended while we looked
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended, and that nobody waited for yet, does not."""
    # It may be buried between two looks, so there is only one.
    said = _read(Path(f"/proc/{pid}/stat"))
    return bool(said) and said.rpartition(")")[2].split()[0] != "Z"


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _children(pid: int) -> list[int]:
    return [int(word) for word in _read(Path(f"/proc/{pid}/task/{pid}/children")).split()]


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _read(path: Path) -> str:
    """The text of a file of /proc; empty when its process ended meanwhile."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


@contextmanager
def running_engine(folder: Path, *options: str) -> Iterator[DockerEngine]:
    """An engine for the length of a block, for fixtures that are not async."""
    engine = DockerEngine(folder, *options)
    try:
        engine.start()
        yield engine
    finally:
        engine.remove()


@asynccontextmanager
async def start_engine(folder: Path, *options: str) -> AsyncIterator[DockerEngine]:
    """An engine for the length of a block. `options` are added to dockerd's command line."""
    engine = DockerEngine(folder, *options)
    try:
        await trio.to_thread.run_sync(engine.start)
        yield engine
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(engine.remove)


def main(words: list[str]) -> int:
    """Runs a command with an engine; its exit code."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    folder = Path(tempfile.mkdtemp(prefix="tt-", dir="/tmp"))
    with running_engine(folder) as engine:
        print(f"container engine for the tests: {engine.at.url} (pid {engine.pid})", flush=True)
        environment = {
            **os.environ,
            SHARED_ENGINE: engine.at.url,
            SHARED_ENGINE_LOG: str(engine.at.log),
        }
        with subprocess.Popen(words, env=environment) as command:
            try:
                return command.wait()
            finally:
                if command.poll() is None:
                    command.terminate()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
