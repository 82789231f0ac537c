"""What the checks of `trionode doctor` look at: settings, keys, daemons, and the node itself if it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from trionode.chain.conf import DaemonConf
from trionode.chain.port import ChainRpc
from trionode.cli.client import NodeApi, NodeRefused, NodeUnreachable
from trionode.config.tree import Settings
from trionode.errors import StartupError
from trionode.wire.keys import NodeKey


@dataclass
class Patient:
    """`status` and `peers` are what the running node says of itself, None when none runs.

    `foreign`: something answers at the API's address that is no node. `key` None: it cannot be read.
    """

    settings: Settings
    files: tuple[str, ...]
    env: Mapping[str, str]
    home: Path
    conf: DaemonConf
    api: NodeApi
    daemon: ChainRpc
    bench: ChainRpc
    key: NodeKey | None = None
    key_problem: StartupError | None = None
    status: dict[str, Any] | None = None
    peers: list[dict[str, Any]] = field(default_factory=list)
    foreign: bool = False

    @property
    def is_running(self) -> bool:
        return self.status is not None

    async def ask(self, path: str) -> Any:
        """A question to the running node. Raises NodeUnreachable or NodeRefused."""
        return await trio.to_thread.run_sync(self.api.get, path, abandon_on_cancel=True)

    async def look_for_node(self) -> None:
        """Whether it runs, and what it says then."""
        try:
            self.status = await self.ask("/trionode/status")
            self.peers = await self.ask("/flux/peers")
        except NodeRefused:
            self.foreign = self.status is None
        except NodeUnreachable as error:
            self.foreign = "did not answer like" in error.message
