"""MongoLocalApps: installed apps where every node keeps them (docs/spec/registry.md §2).

`localzelapps.zelappsinformation` holds each specification flattened with `hash` and `height`, the shape of
the current specifications. A node that changes its software finds its apps; what others wrote into a
document is kept with it.
"""

from __future__ import annotations

from typing import Final

from trionode.errors import StoreError
from trionode.registry.rows import CurrentSpec
from trionode.store.mongo.connection import MongoServer
from trionode.store.mongo.named_values import get_value, put_value
from trionode.store.mongo.shapes_registry import by_names, current_document, current_row
from trionode.store.mongo.writes import Document

DATABASE: Final = "localzelapps"
COLLECTION: Final = "zelappsinformation"
SCOPE: Final = "local"


class MongoLocalApps:
    """Installed apps on MongoDB; needs no opening of its own."""

    def __init__(self, server: MongoServer) -> None:
        self._server = server
        self._closed = False

    async def rows(self) -> list[CurrentSpec]:
        """Every row, by name; of several documents of a name (another node may leave them) the newest."""
        self._check_open()
        documents: list[Document] = await self._server.call(
            lambda: list(self._server.database(DATABASE)[COLLECTION].find())
        )
        by_name: dict[str, CurrentSpec] = {}
        for row in map(current_row, documents):
            known = by_name.get(row.name)
            if row.name and (known is None or row.height >= known.height):
                by_name[row.name] = row
        return [by_name[name] for name in sorted(by_name)]

    async def put(self, row: CurrentSpec) -> None:
        self._check_open()
        document, where = current_document(row), by_names("name", (row.name,))

        def work() -> None:
            collection = self._server.database(DATABASE)[COLLECTION]
            collection.replace_one(where, document, upsert=True)
            kept = collection.find_one(where, {"_id": 1})
            if kept is not None:
                collection.delete_many({"$and": [where, {"_id": {"$ne": kept["_id"]}}]})

        await self._server.call(work, doing="write", writes=True)

    async def delete(self, name: str) -> None:
        self._check_open()
        where = by_names("name", (name,))

        def work() -> None:
            self._server.database(DATABASE)[COLLECTION].delete_many(where)

        await self._server.call(work, doing="write", writes=True)

    async def get_meta(self, key: str) -> str | None:
        self._check_open()
        return await get_value(self._server, SCOPE, key)

    async def put_meta(self, key: str, value: str) -> None:
        self._check_open()
        await put_value(self._server, SCOPE, key, value)

    async def aclose(self) -> None:
        """The connection stays. A second call does nothing."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed", remedy="open it again")
