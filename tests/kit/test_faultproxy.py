"""The proxy of the test kit does to a connection what it says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import faultproxy
import mongoserver
import pymongo
import pytest
from faultproxy import DISK_FULL, NOT_PRIMARY, Fault, FaultProxy
from mongohaste import without_a_server
from pymongo.errors import AutoReconnect, OperationFailure, ServerSelectionTimeoutError

pytestmark = pytest.mark.process


@pytest.fixture
def proxy(mongo: mongoserver.Databases) -> Iterator[FaultProxy]:
    with faultproxy.fault_proxy(mongo.server.host, mongo.server.port) as proxy:
        yield proxy


@pytest.fixture
def rows(mongo: mongoserver.Databases, proxy: FaultProxy) -> Iterator[Any]:
    url = mongo.server.url_at(proxy.host, proxy.port)
    options = {"retryWrites": False, "retryReads": False, "serverSelectionTimeoutMS": 60_000}
    with pymongo.MongoClient[dict[str, Any]](url, **options) as client:
        yield client[f"{mongo.prefix}db"].rows


def test_calls_are_counted_without_those_of_the_driver(rows: Any, proxy: FaultProxy) -> None:
    rows.insert_one({"_id": 1})
    assert rows.count_documents({}) == 1
    assert [call.name for call in proxy.calls if call.number] == ["insert", "aggregate"]
    assert proxy.count() == 2
    assert proxy.count("insert") == 1


@pytest.mark.parametrize(("cut", "left"), [("before", 0), ("half", 0), ("after", 1)])
def test_a_call_is_cut(rows: Any, proxy: FaultProxy, cut: faultproxy.When, left: int) -> None:
    done: list[str] = []
    proxy.spoil(Fault(cut=cut, then=lambda: done.append(cut)), name="insert")
    with pytest.raises(AutoReconnect):
        rows.insert_one({"_id": 1})
    assert done == [cut]
    assert rows.count_documents({}) == left
    rows.insert_one({"_id": 2})


@pytest.mark.parametrize("answer", [NOT_PRIMARY, DISK_FULL])
def test_a_call_gets_another_answer(rows: Any, proxy: FaultProxy, answer: dict[str, Any]) -> None:
    proxy.spoil(Fault(answer=answer), name="insert", nth=2)
    rows.insert_one({"_id": 1})
    with pytest.raises((AutoReconnect, OperationFailure)) as caught:
        rows.insert_one({"_id": 2})
    assert caught.value.details["code"] == answer["code"]
    assert rows.count_documents({}) == 1


def test_refused_and_back(rows: Any, proxy: FaultProxy) -> None:
    rows.insert_one({"_id": 1})
    proxy.down()
    with without_a_server(rows.database.client):
        for number in (2, 3):
            with pytest.raises((AutoReconnect, ServerSelectionTimeoutError)):
                rows.insert_one({"_id": number})
    proxy.up()
    rows.insert_one({"_id": 4})
    assert rows.distinct("_id") == [1, 4]


def test_each_call_waits(rows: Any, proxy: FaultProxy) -> None:
    rows.insert_one({"_id": 1})
    proxy.delay_s = 0.3
    begin = time.monotonic()
    rows.insert_one({"_id": 2})
    assert time.monotonic() - begin >= 0.3
