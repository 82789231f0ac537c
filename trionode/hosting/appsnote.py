"""AppsNote: which apps are installed and where that is kept, in a small file in the data folder.

A database without installed apps makes an orphan of every app container, and orphans are removed with their
data (docs/spec/lifecycle.md §16). So a node that had apps does not start on a database that knows of none:
another store.url without `trionode store copy`, another prefix, a file that was lost (docs/storage.md).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path

import msgspec
import trio

from trionode.errors import StartupError
from trionode.runtime.logs import get_logger
from trionode.store.localapps import LocalAppStore

NOTE_FILE = "installed-apps.json"
RECORDS = "installRecords"
"""A named value that every database has on which an app was ever installed, or that was copied from one."""
AGAIN_S = 60.0
_SHOWN = 5

log = get_logger("hosting.appsnote")


class Noted(msgspec.Struct, frozen=True):
    """The content of the file. `store`: where the table was, for people."""

    store: str
    apps: tuple[str, ...]


class AppsNote:
    """Service "apps note". Listen with `changed` to the table `names` is from."""

    name = "apps note"

    def __init__(self, path: Path, store: str, names: Callable[[], Collection[str]]) -> None:
        self._path = path
        self._store = store
        self._names = names
        self._news = trio.Event()

    def changed(self) -> None:
        """The table was read, or has changed."""
        self._news.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write the file after every change until cancelled."""
        task_status.started()
        while True:
            await self._news.wait()
            self._news = trio.Event()
            note = Noted(self._store, tuple(sorted(self._names())))
            try:
                await trio.to_thread.run_sync(_write, self._path, msgspec.json.encode(note))
            except OSError as error:
                log.error("installed apps not noted, tried again", path=str(self._path), problem=str(error))
                self._news.set()
                await trio.sleep(AGAIN_S)


async def refuse_forgotten(
    local: LocalAppStore, path: Path, store: str, *, before: Callable[[], Awaitable[Sequence[str]]]
) -> None:
    """Raise StartupError when apps were installed here and `local` knows of none. Raises StoreError.

    `before`: what was installed as far as can be told without a note, of versions that wrote none.
    """
    if await local.rows() or await local.get_meta(RECORDS) is not None:
        return  # or the same database, from which the last app was removed
    note = await trio.to_thread.run_sync(_read, path)
    apps = tuple(await before()) if note is None else note.apps
    if not apps:
        return
    where = f" in {note.store}" if note is not None else ""
    more = f" and {len(apps) - _SHOWN} more" if len(apps) > _SHOWN else ""
    raise StartupError(
        f"this node had {', '.join(apps[:_SHOWN])}{more} installed{where}, and {store} knows of no app:"
        " their containers and data would be removed as nobody's",
        remedy="copy the former database first (`trionode store copy FROM TO`) or restore it from a backup;"
        f' to let the apps go, write {{"store":"","apps":[]}} into {path}',
    )


def _read(path: Path) -> Noted | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Noted)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise StartupError(
            f"the note of installed apps {path} cannot be read: {error}",
            remedy="make it readable, or delete it if no app is installed here",
        ) from error


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(beside, path)
