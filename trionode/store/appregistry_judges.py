"""Who judges the messages of a batch: this thread in slices, or worker processes (registry.md §12).

Judging is pure computing, about 125 microseconds a message, of which only the recovery of the public key
leaves the interpreter lock. Measured on two cores (scripts/bench/bench_registry.py, with storing): threads
are slower than the loop's own thread, processes a third faster, and they leave the loop to gossip. So a
node judges in processes, which start with the first big batch and end when they have been idle for a
while; the simulator, small batches and tests judge in their own thread, with a checkpoint after every few
messages.
"""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Protocol

import trio

from trionode.registry.batch import BatchRules, Judged, NameGroup, judge_group
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.logs import get_logger

log = get_logger("registry")

SLICE_MESSAGES = 16
"""Messages judged without a checkpoint: two or three milliseconds of work."""

SMALL_BATCH = 100
"""Fewer messages are judged in this thread: waking processes for them would take longer."""

PART_MESSAGES = 200
"""A chunk is cut into parts of about this size: packing one takes two milliseconds, and none of the workers
has to wait for another with a heavy part."""

IDLE_S = 60.0
MOST_WORKERS = 4

_LENGTH = struct.Struct(">I")
_RECEIVE_BYTES = 1 << 18


class Judges(Protocol):
    """Judges the groups of a chunk; the answers are in the order of the groups."""

    async def judge(self, groups: Sequence[NameGroup], rules: BatchRules) -> list[list[Judged]]:
        """Judge every group."""
        ...

    async def run(self) -> None:
        """Keep what it needs alive until cancelled."""
        ...


class InlineJudges:
    """Judges in the loop's own thread, letting others go on after every few messages."""

    async def judge(self, groups: Sequence[NameGroup], rules: BatchRules) -> list[list[Judged]]:
        verdicts: list[list[Judged]] = []
        done = 0
        for group in groups:
            judged: list[Judged] = []
            for verdict in judge_group(group, rules):
                judged.append(verdict)
                done += 1
                if done % SLICE_MESSAGES == 0:
                    await trio.lowlevel.checkpoint()
            verdicts.append(judged)
        await trio.lowlevel.checkpoint()
        return verdicts

    async def run(self) -> None:
        await trio.sleep_forever()


class WorkerLost(Exception):
    """A worker process ended or answered nonsense; what it had is judged here."""


class _Worker:
    """One worker process, driven by one question at a time."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.usable = True
        self._buffer = bytearray()

    async def ask(self, groups: Sequence[NameGroup], rules: BatchRules) -> list[list[Judged]]:
        await trio.lowlevel.checkpoint()
        body = pickle.dumps((rules, groups), pickle.HIGHEST_PROTOCOL)
        self.usable = False  # until the whole answer is here, also when we are cancelled meanwhile
        source, sink = self.process.stdout, self.process.stdin
        assert source is not None
        assert sink is not None
        try:
            await sink.send_all(_LENGTH.pack(len(body)) + body)
            del body
            (size,) = _LENGTH.unpack(await self._read(source, _LENGTH.size))
            answer = pickle.loads(await self._read(source, size))
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise WorkerLost(str(error)) from error
        self.usable = True
        assert isinstance(answer, list)
        return answer

    async def _read(self, source: trio.abc.ReceiveStream, size: int) -> bytes:
        while len(self._buffer) < size:
            some = await source.receive_some(_RECEIVE_BYTES)
            if not some:
                raise WorkerLost("the worker process ended")
            self._buffer += some
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data


class ProcessJudges:
    """Judges in worker processes. `run` keeps them; without it, or when they fail, judges inline."""

    def __init__(self, counters: Counters, *, workers: int | None = None, idle_s: float = IDLE_S) -> None:
        self._counters = counters
        self._wanted_workers = workers or min(MOST_WORKERS, os.cpu_count() or 1)
        self._idle_s = idle_s
        self._inline = InlineJudges()
        self._workers: list[_Worker] = []
        self._running = False
        self._wanted = trio.Event()
        self._settled = Gate()
        self._busy = 0
        self._turn = trio.Lock()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The worker processes there are."""
        return tuple(worker.process.pid for worker in self._workers)

    async def judge(self, groups: Sequence[NameGroup], rules: BatchRules) -> list[list[Judged]]:
        if not self._running or sum(len(group.rows) for group in groups) < SMALL_BATCH:
            return await self._inline.judge(groups, rules)
        async with self._turn:
            self._busy += 1
            try:
                self._wanted.set()
                await self._settled.wait()
                return await self._spread(groups, rules)
            finally:
                self._busy -= 1

    async def _spread(self, groups: Sequence[NameGroup], rules: BatchRules) -> list[list[Judged]]:
        parts = _parts(groups)
        answers: dict[int, list[list[Judged]]] = {}
        waiting = iter(enumerate(parts))
        async with trio.open_nursery() as nursery:
            for worker in self._workers:
                if worker.usable:
                    nursery.start_soon(self._drive, worker, waiting, rules, answers)
        # what no worker could answer (none left, or one died over it) is judged here
        for number, part in enumerate(parts):
            if number not in answers:
                answers[number] = await self._inline.judge(part, rules)
        return [judged for number in range(len(parts)) for judged in answers[number]]

    async def _drive(
        self,
        worker: _Worker,
        waiting: Iterator[tuple[int, Sequence[NameGroup]]],
        rules: BatchRules,
        answers: dict[int, list[list[Judged]]],
    ) -> None:
        for number, part in waiting:
            try:
                answers[number] = await worker.ask(part, rules)
            except WorkerLost as error:
                self._counters.add("registry.judges.lost")
                log.warning("a judging process was lost, its messages are judged here", error=str(error))
                return

    async def run(self) -> None:
        """Start the processes when they are wanted, end them when they have been idle."""
        self._running = True
        try:
            while True:
                await self._wanted.wait()
                await self._serve()
        finally:
            self._running = False
            self._settled.open()

    async def _serve(self) -> None:
        async with trio.open_nursery() as nursery:
            try:
                for _ in range(self._wanted_workers):
                    self._workers.append(_Worker(await nursery.start(_process)))
            except OSError as error:
                self._counters.add("registry.judges.not_started")
                log.warning("no judging process could be started, judging here", error=str(error))
            self._settled.open()
            try:
                await self._until_idle()
            finally:
                self._wanted = trio.Event()
                self._settled.close()
                self._workers.clear()
            nursery.cancel_scope.cancel()

    async def _until_idle(self) -> None:
        idle_s = 0.0
        while idle_s < self._idle_s:
            await trio.sleep(self._idle_s / 4)
            idle_s = 0.0 if self._busy else idle_s + self._idle_s / 4


async def _process(*, task_status: trio.TaskStatus[trio.Process]) -> None:
    """One worker process; it ends when this task is cancelled, or with the node."""
    await trio.run_process(
        [sys.executable, "-m", "trionode.store.appregistry_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        check=False,
        deliver_cancel=_end,
        task_status=task_status,
    )


async def _end(process: trio.Process) -> None:
    """Closing its input ends a worker; one that hangs is killed."""
    process.kill()


def _parts(groups: Sequence[NameGroup]) -> list[Sequence[NameGroup]]:
    """Cut into runs of about `PART_MESSAGES` messages; a name is never divided."""
    parts: list[Sequence[NameGroup]] = []
    part: list[NameGroup] = []
    rows = 0
    for group in groups:
        part.append(group)
        rows += len(group.rows)
        if rows >= PART_MESSAGES:
            parts.append(part)
            part, rows = [], 0
    if part:
        parts.append(part)
    return parts
