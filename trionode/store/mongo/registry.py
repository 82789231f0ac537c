"""MongoRegistryStore: the registry in the databases every node of the network knows."""

from __future__ import annotations

from trionode.store.mongo.connection import MongoServer
from trionode.store.registry_port import RegistryStore


class MongoRegistryStore(RegistryStore):
    """The registry on MongoDB. `open` before use."""

    immediate = False

    def __init__(self, server: MongoServer) -> None:
        self._server = server

    async def open(self) -> None:
        """Create what is missing, repair what is not right. Raises StoreError."""
