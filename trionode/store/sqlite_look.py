"""Looking into an SQLite file of ours without changing anything, whether a node runs on it or not.

A file with nothing in its write-ahead log is opened as one that cannot change: no file beside it is made.
With something in the log, because a node runs or was killed, SQLite reads through its index of the log
(`-shm`), a scratch file; if it was not there before it is removed again. Neither database nor log change.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

import msgspec


class Look(msgspec.Struct, frozen=True):
    """An open connection, and what there was. `close` ends it."""

    connection: sqlite3.Connection
    in_use: bool
    """A node runs on the file."""
    scratch: Path | None = None
    """The index that was not there before."""

    def close(self) -> None:
        self.connection.close()
        if self.scratch is not None:
            self.scratch.unlink(missing_ok=True)


def look(path: Path) -> Look:
    """Open the file for reading. Raises sqlite3.Error or OSError; FileNotFoundError when it is not there."""
    os.stat(path)
    in_use = is_in_use(path)
    log, index = Path(f"{path}-wal"), Path(f"{path}-shm")
    is_folded = not in_use and (not log.exists() or log.stat().st_size == 0)
    scratch = None if is_folded or in_use or index.exists() else index
    how = "immutable=1" if is_folded else "mode=ro"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA busy_timeout = 5000")
    return Look(connection, in_use, scratch)


def is_in_use(path: Path) -> bool:
    """Whether a process owns the file (sqlite_file.py, `take_ownership`). Raises OSError."""
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
