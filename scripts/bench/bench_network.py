"""A network of 16 real nodes on this machine: time to READY, memory, death of a peer, leaving it.

READY is the orchestrator's phase: hash sync done, app state had from three peers. Memory is the resident
memory of all processes, each shared page counted in every process that has it; the true sum (pages counted
once) stands beside it. A peer dies silently (SIGSTOP: its kernel keeps the links open, only pongs are
missing) or with its process (kill -9). A departure is measured with 50 peers, which read what they are sent.
"""

from __future__ import annotations

import http.client
import json
import queue
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio
from _harness import Bench
from _processes import cpu_s, family, get, pss_mb, rss_mb, running, started, stub, wait_until

from trionode.config.tree import PeerSettings
from trionode.devnet import layout as places
from trionode.devnet.layout import Layout, NodePlace
from trionode.peers.link import Hello, LinkClosed
from trionode.peers.ws import WsTransport

NODES, OFFSET = 16, 60
LEAVING_OFFSET, PEERS = 100, 50
PING_S, MISSED_PONGS = 2.0, 2
DEATHS = 4
SETTLED_S = 20.0
UP_WITHIN_S, READY_WITHIN_S, NOTICED_WITHIN_S = 120.0, 300.0, 30.0
IMPORT_LINE = "import trionode.process, resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
BARE = "memory, imports of one node"
KILLED = "kill -9 noticed, worst"

SETTINGS: dict[str, Any] = {
    # Sources must usually have been up for two hours; all nodes of this network are new.
    "state_sync.min_peer_uptime_s": 0.0,
    "peers.ping_interval_s": PING_S,
    "peers.max_missed_pongs": MISSED_PONGS,
    "api.event_ring": 4096,
    "log.level": "warning",
}


def main() -> int:
    bench = Bench(f"{NODES} real nodes on this machine; a node with {PEERS} peers leaves")
    with tempfile.TemporaryDirectory() as folder:
        layout = places.plan(Path(folder), NODES, OFFSET)
        places.write(layout, random.Random(1), SETTINGS)
        imported_kib = int(subprocess.check_output([sys.executable, "-c", IMPORT_LINE]))
        bench.add(BARE, imported_kib * 1024 / 1e6, "MB")
        with stub(layout, "--ticker", "--block-interval-ms", "5000"), network(layout) as processes:
            coming_up(bench, layout, [process.pid for process in processes])
            weigh(bench, [process.pid for process in processes])
            dying(bench, layout, processes)
    for what, settings in (("process only", {}), ("machine goes down", going_down())):
        with tempfile.TemporaryDirectory() as folder:
            leaving(bench, Path(folder), what, settings)
    return bench.finish()


# ---- coming up ---------------------------------------------------------------------------------------


@contextmanager
def network(layout: Layout) -> Iterator[list[subprocess.Popen[bytes]]]:
    """All nodes, started at the same moment, stopped at the same moment."""
    with ExitStack() as stack:
        processes = [stack.enter_context(started(node)) for node in layout.nodes]
        try:
            yield processes
        finally:
            for process in processes:
                process.send_signal(signal.SIGCONT)
                process.terminate()  # both do nothing to one that has ended


def coming_up(bench: Bench, layout: Layout, pids: Sequence[int]) -> None:
    begin = time.perf_counter()
    pending = dict.fromkeys(layout.nodes)
    ready_s = up_s = 0.0
    while pending:
        for node in list(pending):
            found = status(node)
            if found is None:
                continue
            up_s = up_s or time.perf_counter() - begin
            if found["orchestrator"]["phase"] == "READY":
                ready_s = time.perf_counter() - begin
                del pending[node]
        if time.perf_counter() - begin > READY_WITHIN_S:
            waits = {node.number: (status(node) or {}).get("orchestrator") for node in pending}
            raise SystemExit(f"not READY within {READY_WITHIN_S:g} s: {json.dumps(waits)}")
        time.sleep(0.2)
    used_s = sum(map(cpu_s, pids))
    agreed_s = time.perf_counter() - begin
    agreed_s += wait_until(lambda: agree(layout), READY_WITHIN_S, 0.2)
    fewest_links = min(links_of(node) for node in layout.nodes)
    bench.add("first API answer of the first", up_s, "s")
    bench.add(f"all {NODES} READY", ready_s, "s", goal=60.0, better="lower")
    bench.add("CPU of all nodes until then", used_s, "s", note="a busy machine hardly blurs this")
    bench.add("all list the same apps", agreed_s, "s", note="looked at after READY")
    bench.add("links of the node with fewest", fewest_links, "")


def status(node: NodePlace) -> Any:
    try:
        return get(node, "/trionode/status")
    except (OSError, http.client.HTTPException, ValueError):
        return None


def links_of(node: NodePlace) -> int:
    peers = get(node, "/trionode/status")["peers"]
    return int(peers["outbound"] + peers["inbound"])


def agree(layout: Layout) -> bool:
    wanted = layout.expected_locations
    rows = (get(node, "/apps/locations") for node in layout.nodes)
    return all({(row["name"], row["ip"]) for row in found} == wanted for found in rows)


# ---- weighing ----------------------------------------------------------------------------------------


def weigh(bench: Bench, pids: Sequence[int]) -> None:
    time.sleep(SETTLED_S)
    families = [family(pid) for pid in pids]
    each_mb = [sum(rss_mb(pid) for pid in members) for members in families]
    true_mb = sum(pss_mb(pid) for members in families for pid in members)
    workers = sum(len(members) - 1 for members in families)
    note = f"{workers} worker processes among them"
    bench.add(f"resident memory of all {NODES}", sum(each_mb), "MB", goal=1600.0, better="lower", note=note)
    bench.add("the same, shared pages counted once", true_mb, "MB")
    bench.add("memory, heaviest node", max(each_mb), "MB", baseline=BARE)
    bench.add("memory, median node", statistics.median(each_mb), "MB", baseline=BARE)


# ---- dying -------------------------------------------------------------------------------------------


def dying(bench: Bench, layout: Layout, processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """A killed process is noticed at once: that measures how long its peers take to tell us."""
    killed_s = deaths(layout, processes, NODES - 1, signal.SIGKILL)
    told_s = statistics.median(killed_s)
    rest = layout.nodes[: NODES - 1]
    silent_s: list[float] = []
    for victim in range(DEATHS):
        silent_s += [took_s - told_s for took_s in deaths(layout, processes, victim, signal.SIGSTOP)]
        processes[victim].send_signal(signal.SIGCONT)
        wait_until(lambda: all(links_of(node) >= PEERS_AGAIN for node in rest), 60.0, 0.5)
    limit_s = PING_S * MISSED_PONGS
    note = f"{len(silent_s)} links of {DEATHS} nodes, pings every {PING_S:g} s, {MISSED_PONGS} missed"
    bench.add(KILLED, max(killed_s), "s", goal=limit_s, better="lower")
    bench.add("kill -9 noticed, median", told_s, "s", note="taken off from the next two")
    bench.add(
        "silent death noticed, worst",
        max(silent_s),
        "s",
        baseline=KILLED,
        goal=limit_s,
        better="lower",
        note=note,
    )
    bench.add("silent death noticed, median", statistics.median(silent_s), "s")


PEERS_AGAIN = 10
"""Links every node has again before the next one dies."""


def deaths(
    layout: Layout, processes: Sequence[subprocess.Popen[bytes]], victim: int, number: int
) -> list[float]:
    """Seconds until each peer of a node has dropped its link to it."""
    ip = layout.nodes[victim].ip
    alive = [node for node, process in zip(layout.nodes, processes, strict=True) if process.poll() is None]
    watchers = [node for node in alive if node.ip != ip and is_linked(node, ip)]
    news: queue.Queue[float] = queue.Queue()
    with ExitStack() as stack:
        for node in watchers:
            stack.enter_context(removals(node, ip, news))
        time.sleep(random.uniform(0, PING_S))
        began_s = time.monotonic()
        processes[victim].send_signal(number)
        try:
            return [news.get(timeout=NOTICED_WITHIN_S) - began_s for _ in watchers]
        except queue.Empty:
            raise SystemExit(f"a peer of {ip} did not notice within {NOTICED_WITHIN_S:g} s") from None


def is_linked(node: NodePlace, ip: str) -> bool:
    return any(row["ip"] == ip for row in get(node, "/flux/peers"))


@contextmanager
def removals(node: NodePlace, ip: str, news: queue.Queue[float]) -> Iterator[None]:
    """Puts the moment into `news` at which this node says that the peer is gone."""
    last = get(node, "/trionode/status")["events"]["lastId"]
    connection = http.client.HTTPConnection(node.ip, places.API_PORT, timeout=NOTICED_WITHIN_S * 2)
    connection.request("GET", "/flux/eventstream", headers={"Last-Event-ID": str(last)})
    answer = connection.getresponse()

    def read() -> None:
        name = ""
        try:
            for raw in answer:
                line = raw.decode().rstrip("\n")
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: ") and name == "peers:removed" and f'"{ip}"' in line:
                    news.put(time.monotonic())
                    return
        except (OSError, ValueError, http.client.HTTPException):
            return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield
    finally:
        connection.close()


# ---- leaving -----------------------------------------------------------------------------------------


def going_down() -> dict[str, Any]:
    """Settings with which a node believes that its machine is going down."""
    return {"system.shutdown_marker_files": [__file__], "system.shutdown_commands": False}


def leaving(bench: Bench, folder: Path, what: str, more: dict[str, Any]) -> None:
    layout = places.plan(folder, 1, LEAVING_OFFSET)
    settings = {**SETTINGS, **more, "peers.min_inbound": PEERS // 4 + 1, "peers.discovery_autostart": False}
    places.write(layout, random.Random(1), settings)
    with stub(layout), running(layout.nodes[0]) as (process, _):
        stop_s, told = trio.run(partial(leave, layout.nodes[0], process, expect_word=bool(more)))
    note = f"{told} of {PEERS} peers were told"
    name = f"SIGTERM to exit, {PEERS} peers, {what}"
    bench.add(name, stop_s, "s", goal=5.0, better="lower", note=note)
    if told != (PEERS if more else 0):
        raise SystemExit(f"{name}: {note}")


async def leave(node: NodePlace, process: subprocess.Popen[bytes], *, expect_word: bool) -> tuple[float, int]:
    """Link the peers, wait until the node has announced its apps, stop it: seconds, and peers told."""
    told = [False] * PEERS

    async def peer(number: int, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        transport = WsTransport(PeerSettings(), bind_host=f"127.{LEAVING_OFFSET + 20}.{number + 1}.1")
        try:
            async with transport.dial(node.ip, places.API_PORT, Hello(), own_port=places.API_PORT) as link:
                task_status.started()
                while True:
                    message = await link.receive()
                    told[number] |= isinstance(message, str) and '"fluxnodesigterm"' in message
        except LinkClosed:
            return

    async with trio.open_nursery() as nursery:
        for number in range(PEERS):
            await nursery.start(peer, number)
        if expect_word:
            await trio.to_thread.run_sync(wait_until, lambda: get(node, "/apps/locations"), UP_WITHIN_S, 0.2)
        begin = trio.current_time()
        process.send_signal(signal.SIGTERM)
        await trio.to_thread.run_sync(process.wait)
        took_s = trio.current_time() - begin
        nursery.cancel_scope.cancel()
    return took_s, sum(told)


if __name__ == "__main__":
    sys.exit(main())
