"""What travels over virtual links, and how one task waits for it."""

from __future__ import annotations

import zlib

import trio


class VirtualMessage:
    """A message on the virtual wire, shared by every link it is sent on."""

    __slots__ = ("_mark", "payload", "size_bytes")

    def __init__(self, payload: str | bytes) -> None:
        self.payload = payload
        if isinstance(payload, str) and not payload.isascii():
            self.size_bytes = len(payload.encode("utf-8", "surrogatepass"))
        else:
            self.size_bytes = len(payload)
        self._mark = -1

    @property
    def mark(self) -> int:
        """CRC-32 of the payload: its name in the trace."""
        if self._mark < 0:
            payload = self.payload
            raw = payload if isinstance(payload, bytes) else payload.encode("utf-8", "surrogatepass")
            self._mark = zlib.crc32(raw)
        return self._mark


class Slot:
    """Where at most one task waits until it is woken."""

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None

    async def wait(self) -> None:
        if self._task is not None:
            raise trio.BusyResourceError("another task is already waiting on this end of the link")
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def wake(self) -> None:
        task = self._task
        if task is not None:
            self._task = None
            trio.lowlevel.reschedule(task)
