"""What a node finds of its last run: the boot id file and the heartbeat (docs/spec/lifecycle.md §4)."""

from __future__ import annotations

import contextlib
import sqlite3

import msgspec
import trio

from network.env import BootContext
from trionode.devnet.layout import NodePlace
from trionode.hosting.heartbeat import META_KEY
from trionode.lifecycle.boot import AliveRecord
from trionode.runtime.clock import SystemClock
from trionode.store.open import FILE_NAME
from trionode.store.sqlite import open_sqlite


def own_boot_id(place: NodePlace) -> str:
    """The boot id a node has until a test sets another one."""
    return f"test-boot-id-node-{place.number:02}"


def prepare(place: NodePlace, context: BootContext | None) -> None:
    """Write the boot id file, and the heartbeat of an earlier run unless it is the first boot.

    `running`: alive until now, only the process is new. `rebooted`: another boot id, and a clean stop just
    now. `firstBoot` or None: no heartbeat. A mapping gives `downtime_s`, `rebooted` and `clean`.
    """
    place.boot_id.write_text(own_boot_id(place) + "\n", "ascii")
    if context is not None and context != "firstBoot":
        trio.run(leave_heartbeat, place, context)


async def leave_heartbeat(place: NodePlace, context: BootContext) -> None:
    """Put the heartbeat of such a last run into the store of a node that does not run."""
    if context == "firstBoot":
        with contextlib.closing(sqlite3.connect(place.folder / "data" / FILE_NAME)) as database:
            database.execute("DELETE FROM meta WHERE key = ?", (META_KEY,))
            database.commit()
        return
    if isinstance(context, str):
        context = {"rebooted": context == "rebooted", "clean": context == "rebooted"}
    record = AliveRecord(
        last_alive=SystemClock().now_ms() - round(context.get("downtime_s", 0) * 1000),
        machine_boot_id="old-boot-id" if context["rebooted"] else own_boot_id(place),
        shutdown_reason="sigterm" if context["clean"] else None,
    )
    data = place.folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    async with open_sqlite(data / FILE_NAME) as store:
        await store.put_meta(META_KEY, msgspec.json.encode(record).decode())
