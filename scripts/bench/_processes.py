"""What the benches of whole processes share: start nodes and the daemon's stand-in, ask, weigh, wait."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trionode.devnet import layout as places
from trionode.devnet.layout import Layout, NodePlace
from trionode.devnet.processes import die_with_parent, module_command


@contextmanager
def stub(layout: Layout, *more: str) -> Iterator[None]:
    """The daemon's stand-in of a layout; `more` are arguments of its own."""
    command = module_command(
        "trionode.sim.stub_server", "--host", layout.stub_ip, "--nodes", str(layout.node_list), *more
    )
    process = subprocess.Popen(command, preexec_fn=die_with_parent)
    try:
        wait_until(lambda: connects(layout.stub_ip, places.DAEMON_PORT))
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def started(node: NodePlace) -> Iterator[subprocess.Popen[bytes]]:
    """A node process, which may not answer yet; stopped at the end."""
    command = module_command("trionode", "--config", str(node.config), "run")
    with (
        node.log.open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=die_with_parent) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait()


@contextmanager
def running(node: NodePlace) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """A node process and the seconds until it answered for the first time."""
    begin = time.perf_counter()
    with started(node) as process:
        wait_until(lambda: answers(node))
        yield process, time.perf_counter() - begin


def wait_until(condition: Callable[[], bool], within_s: float = 30.0, look_every_s: float = 0.005) -> float:
    """Seconds until the condition held; ends the bench when it does not in time."""
    begin = time.perf_counter()
    while not condition():
        if time.perf_counter() > begin + within_s:
            raise SystemExit(f"what was waited for did not come within {within_s:g} s")
        time.sleep(look_every_s)
    return time.perf_counter() - begin


def connects(ip: str, port: int) -> bool:
    connection = http.client.HTTPConnection(ip, port, timeout=1)
    try:
        connection.connect()
    except OSError:
        return False
    connection.close()
    return True


def answers(node: NodePlace) -> bool:
    try:
        return bool(get(node, "/flux/version"))
    except OSError:
        return False


def get(node: NodePlace, path: str) -> Any:
    """`data` of an answer, never a cached one."""
    connection = http.client.HTTPConnection(node.ip, places.API_PORT, timeout=10)
    connection.request("GET", path, headers={"x-apicache-bypass": "1"})
    data = json.loads(connection.getresponse().read())["data"]
    connection.close()
    return data


def rss_mb(pid: int) -> float:
    """Resident memory of a process in MB (10^6 bytes)."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmRSS") * 1024 / 1e6


def peak_rss_mb(pid: int) -> float:
    """The most it ever had resident. Unlike `ru_maxrss`, not what its parent had when it was forked."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM") * 1024 / 1e6


def pss_mb(pid: int) -> float:
    """The same with pages that several processes share counted in parts, so that sums are true."""
    return _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss") * 1024 / 1e6


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in children.read_text("ascii").split()]
    return found


def _kilobytes(file: Path, name: str) -> int:
    for line in file.read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise SystemExit(f"{file} says nothing about {name}: the process is gone")
