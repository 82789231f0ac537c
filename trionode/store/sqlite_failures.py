"""Errors of SQLite and the file system as errors a person can act on, and which of them pass by themselves.

A disk that is full or read-only, or a file that another program holds, leaves what is stored whole: SQLite
takes back the whole commit, reading goes on, and the same connection works again as soon as it can. Such an
error is StoreAway. A damaged file or a wrong call stays as it is, however often it is tried.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from trionode.errors import StoreAway, StoreError

MOVE_AWAY: Final = "move the file away and start again: the node refills it from its peers"
FREE_SPACE: Final = "free some space on the disk of the data folder: the node goes on by itself"
_READ_ONLY: Final = "make the disk of the data folder writable (see the kernel log why it is not)"
_REMEDIES = {
    "SQLITE_FULL": FREE_SPACE,
    "SQLITE_IOERR": "free some space on the disk of the data folder, or check it (kernel log)",
    "SQLITE_READONLY": "make the data folder and the file writable for this user",
    "SQLITE_CANTOPEN": "check that the data folder exists and is writable for this user",
    "SQLITE_PERM": "make the data folder and the file writable for this user",
    "SQLITE_BUSY": "close the other program that uses the file",
    "SQLITE_LOCKED": "close the other program that uses the file",
    "SQLITE_NOTADB": MOVE_AWAY,
    "SQLITE_CORRUPT": MOVE_AWAY,
}
_BY_ERRNO = {
    errno.ENOSPC: FREE_SPACE,
    errno.EDQUOT: FREE_SPACE,
    errno.EROFS: _READ_ONLY,
    errno.EIO: "check the disk of the data folder (kernel log)",
    errno.ENFILE: "end other programs, or raise the limit of open files",
    errno.EMFILE: "raise the limit of open files (LimitNOFILE in the unit)",
}

_AWAY = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_AWAY_WHEN_OPEN = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
"""At the start these mean wrong rights or a wrong path, which a person has to put right."""
_NEVER = {sqlite3.SQLITE_READONLY_DBMOVED, sqlite3.SQLITE_IOERR_CORRUPTFS, sqlite3.SQLITE_IOERR_DATA}
"""The file is another one by now, or damaged."""


def passes(error: OSError) -> bool:
    """Whether the same call may succeed later without anybody changing rights or paths."""
    return error.errno in _BY_ERRNO


def os_remedy(error: OSError, otherwise: str) -> str:
    """What to do about an error of the file system."""
    return _BY_ERRNO.get(error.errno or 0, otherwise)


def store_error(path: Path, doing: str, error: Exception) -> StoreError:
    """The error of SQLite or the system as one that names the file and the remedy."""
    if isinstance(error, OSError):
        remedy = os_remedy(error, "check that the data folder exists and is writable for this user")
        made = StoreAway if passes(error) else StoreError
        return made(f"cannot {doing} {path}: {error.strerror or error}", remedy=remedy)
    name = getattr(error, "sqlite_errorname", "") or ""
    remedy = next((text for key, text in _REMEDIES.items() if name.startswith(key)), "")
    made = StoreAway if _is_away(getattr(error, "sqlite_errorcode", 0) or 0, doing) else StoreError
    return made(f"cannot {doing} {path}: {error}", remedy=remedy or "see the log for the reason")


def _is_away(code: int, doing: str) -> bool:
    if code in _NEVER:
        return False
    kind = code & 0xFF
    return kind in _AWAY or (kind in _AWAY_WHEN_OPEN and doing != "open")


@contextmanager
def translated(path: Path, doing: str) -> Iterator[None]:
    """Turn errors of SQLite and the file system into StoreError."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise store_error(path, doing, error) from error
