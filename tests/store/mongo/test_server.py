"""The server of a node: an address that is of no use, who acknowledges a write, sessions that are ended."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from mongorows import quick
from mongoserver import Databases, TestServer
from pymongo.errors import AutoReconnect

from trionode.config.tree import StoreSettings
from trionode.errors import StoreError
from trionode.store.mongo.connection import MongoServer, open_mongo


@pytest.mark.trio
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mongodb://user:pa@ss@127.0.0.1:1/", "store.url"),
        ("mongodb://user:secret@127.0.0.1:1/?tls=maybe", "store.url"),
        ("mongodb://user:secret@127.0.0.1:1/?authSource=admin", "reach 127.0.0.1:1"),
    ],
)
async def test_a_bad_address_is_told_without_the_password(url: str, words: str) -> None:
    settings = StoreSettings(url=url, mongo_connect_s=0.2, mongo_call_s=0.2, mongo_retry_s=0.0)
    with pytest.raises(StoreError, match=words) as caught:
        async with open_mongo(settings):
            pass
    assert "secret" not in str(caught.value)
    assert "pa@ss" not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.trio
async def test_a_server_that_is_not_there_is_waited_for_as_long_as_for_a_connection() -> None:
    settings = StoreSettings(
        url="mongodb://127.0.0.1:1/", mongo_connect_s=0.2, mongo_call_s=600.0, mongo_retry_s=0.0
    )
    with pytest.raises(StoreError, match=r"reach 127\.0\.0\.1:1"):
        async with open_mongo(settings):
            pass


@pytest.mark.trio
@pytest.mark.process
async def test_the_majority_acknowledges_wherever_there_are_members(
    mongo: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a replica set that turns out to have no transactions."""
    monkeypatch.setattr(MongoServer, "_may_transact", lambda *_: False)
    async with open_mongo(quick(mongo.url, mongo.prefix)) as server:
        assert not server.has_transactions
        assert server.database("zelcashdata").write_concern.document == {"w": "majority", "j": True}


@pytest.mark.trio
@pytest.mark.process
async def test_a_lone_server_acknowledges_for_itself(mongo_standalone: TestServer) -> None:
    async with open_mongo(quick(mongo_standalone.url, "lone_")) as server:
        assert server.database("zelcashdata").write_concern.document == {"w": 1, "j": True}


def test_a_session_lost_while_others_are_ended_is_ended_too() -> None:
    """The two stores of a node write in threads of their own."""
    server = MongoServer(quick("mongodb://127.0.0.1:1/", "p_"))
    ended: list[Any] = []

    class Client:
        admin = database = property(lambda self: self)

        def command(self, name: str, sessions: list[Any]) -> None:
            ended.extend(sessions)

        def start_session(self) -> Any:
            return nullcontext(LostSession())

    class LostSession:
        def start_transaction(self, **_: Any) -> None:
            pass

        @property
        def session_id(self) -> str:
            server._end_lost_sessions(client)  # the other thread, at this very moment
            return "mine"

    def build(session: Any) -> Any:
        server._lost_sessions.append({"of": "another"})
        raise AutoReconnect("gone")

    client: Any = Client()
    server._client = client
    with pytest.raises(AutoReconnect):
        server._transact(build)
    server._end_lost_sessions(client)
    assert ended == [{"of": "another"}, "mine"]
