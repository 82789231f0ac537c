"""Clients that are in a hurry for a while: what is known to be away is given up soon, all else is waited for.

A short limit on calls from the beginning would end a call of a busy machine, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pymongo

from trionode.store.mongo.connection import MongoServer

SOON_S = 1.0

_T = TypeVar("_T")


@contextmanager
def without_a_server(client: MongoServer | pymongo.MongoClient[Any]) -> Iterator[None]:
    """Inside the block nobody waits longer than `SOON_S` for a server that refuses connections, nor does a
    call that was under way before."""
    driver = client._client if isinstance(client, MongoServer) else client
    assert driver is not None
    topology = driver._topology
    plain: Callable[[], float] = topology.get_server_selection_timeout
    topology.get_server_selection_timeout = lambda: min(SOON_S, plain())  # type: ignore[method-assign]
    try:
        yield
    finally:
        del topology.get_server_selection_timeout


@contextmanager
def without_answers(server: MongoServer) -> Iterator[None]:
    """Each attempt of a call that begins inside the block ends after `SOON_S`, whatever the server does."""
    plain = server._retried
    is_over = False

    async def retried(work: Callable[[], _T], doing: str, **options: Any) -> _T:
        def hastily() -> _T:
            if is_over:
                return work()
            with pymongo.timeout(SOON_S):
                return work()

        return await plain(hastily, doing, **options)

    server._retried = retried  # type: ignore[method-assign]
    try:
        yield
    finally:
        is_over = True
        del server._retried
