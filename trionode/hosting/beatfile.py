"""BeatFile: the heartbeat in a small file, for the time in which the store cannot be written.

A node whose store was away for hours was alive all the same. Without a note of it the next reboot would be
taken for one after hours of silence, and cost all apps (docs/spec/lifecycle.md §4, rule 2). The file has its
full size from the start and is only overwritten in place, which a full disk allows.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import trio

from trionode.lifecycle.boot import AliveRecord
from trionode.runtime.logs import get_logger

BEAT_FILE = "alive"
SIZE_BYTES = 1024

log = get_logger("hosting.beatfile")


class BeatFile:
    """One record. What it cannot do is logged: it is the spare of something that failed already."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def open(self) -> AliveRecord | None:
        """Make room, and return the record of an earlier life, None when there is none."""
        return await trio.to_thread.run_sync(self._open)

    async def keep(self, record: AliveRecord) -> bool:
        """Overwrite the record; False when that could not be done."""
        text = msgspec.json.encode(record)
        if len(text) > SIZE_BYTES:
            log.error("heartbeat does not fit into its file", bytes=len(text))
            return False
        return await trio.to_thread.run_sync(self._keep, text.ljust(SIZE_BYTES))

    def _open(self) -> AliveRecord | None:
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                found = os.pread(descriptor, SIZE_BYTES, 0).strip()
                if os.fstat(descriptor).st_size < SIZE_BYTES:
                    os.pwrite(descriptor, found.ljust(SIZE_BYTES), 0)
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            log.warning("no spare place for the heartbeat", path=str(self.path), problem=str(error))
            return None
        try:
            return msgspec.json.decode(found, type=AliveRecord) if found else None
        except msgspec.DecodeError as error:
            log.warning("the spare heartbeat cannot be read", path=str(self.path), problem=str(error))
            return None

    def _keep(self, text: bytes) -> bool:
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(descriptor, text, 0)
            finally:
                os.close(descriptor)
        except OSError as error:
            log.error("heartbeat kept nowhere", path=str(self.path), problem=str(error))
            return False
        return True
