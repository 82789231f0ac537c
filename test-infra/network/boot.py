"""What a node finds of its last run: the boot id file and the heartbeat (docs/spec/lifecycle.md §4)."""

from __future__ import annotations

from network.env import BootContext
from trionode.devnet.layout import NodePlace


def own_boot_id(place: NodePlace) -> str:
    """The boot id a node has until a test sets another one."""
    return f"test-boot-id-node-{place.number:02}"


def prepare(place: NodePlace, context: BootContext | None) -> None:
    """Write the boot id file, and the heartbeat of an earlier run unless it is the first boot."""
    place.boot_id.write_text(own_boot_id(place) + "\n", "ascii")
