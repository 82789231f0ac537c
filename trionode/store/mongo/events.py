"""MongoStore: the event log in the database every node of the network knows (docs/spec/events.md §2, §3)."""

from __future__ import annotations

from trionode.store.mongo.connection import MongoServer
from trionode.store.port import Store


class MongoStore(Store):
    """The event log on MongoDB. `open` before use."""

    immediate = False

    def __init__(self, server: MongoServer) -> None:
        self._server = server

    async def open(self) -> None:
        """Create what is missing, repair what is not right. Raises StoreError."""
