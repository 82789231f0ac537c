"""User, password and TLS are part of `store.url`, and never shown."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from mongorows import put, quick, running
from mongoserver import OPTIONS, Databases, TestServer, running_server

from trionode.errors import StoreError
from trionode.store.mongo.connection import MongoServer, open_mongo
from trionode.store.mongo.events import MongoStore

pytestmark = [pytest.mark.trio, pytest.mark.process]

PASSWORD = "p w@d"
ESCAPED = "p%20w%40d"


@pytest.fixture
def locked_server(tmp_path: Path) -> Iterator[TestServer]:
    storage = str(tmp_path / "data")
    with running_server(storage=storage, kept=True) as (server, _), server.client() as client:
        client.admin.command("createUser", "node", pwd=PASSWORD, roles=["readWriteAnyDatabase"])
        client.admin.command("createUser", "reader", pwd=PASSWORD, roles=["readAnyDatabase"])
    with running_server("--auth", storage=storage) as (server, _):
        yield server


async def count(url: str, call_s: float = 60.0) -> int:
    async with open_mongo(quick(url, "c_", mongo_call_s=call_s)) as server:
        assert "node" not in server.label
        store = MongoStore(server)
        await store.open()
        await store.commit([put(running())])
        return (await store.counts())["events"]


async def test_a_user_with_a_password(locked_server: TestServer) -> None:
    place = f"{locked_server.host}:{locked_server.port}/?authSource=admin&{OPTIONS}"
    assert await count(f"mongodb://node:{ESCAPED}@{place}") == 1
    for credentials in ("node:wrong@", ""):
        with pytest.raises(StoreError) as caught:
            await count(f"mongodb://{credentials}{place}")
        assert "wrong" not in str(caught.value)
        assert "store.url" in caught.value.remedy
    with pytest.raises(StoreError) as caught:
        await count(f"mongodb://reader:{ESCAPED}@{place}")
    assert "readWrite" in caught.value.remedy


async def test_a_replica_set_by_its_name(mongo_server: TestServer, mongo: Databases) -> None:
    if mongo_server.real:
        pytest.skip("the name of its replica set is not ours to know")
    place = f"mongodb://{mongo_server.host}:{mongo_server.port}/?heartbeatFrequencyMS=500&replicaSet="
    with mongo_server.client() as client:
        name = client.admin.command("hello")["setName"]
    async with open_mongo(quick(place + name, mongo.prefix)) as server:
        assert server.has_transactions
        await MongoStore(server).commit([put(running())])
    with pytest.raises(StoreError, match="other"):
        await MongoServer(quick(f"{place}other", mongo.prefix, mongo_call_s=0.5)).open()


@pytest.mark.parametrize(
    "url",
    [
        "mongodb+srv://node:sec/ret@a.invalid/",
        "mongodb://node:sec/ret@a.invalid/",
        "mongodb://node:secret@127.0.0.1:1/?tls=true&tlsCAFile=/does/not/exist",
    ],
)
async def test_an_address_nobody_can_use_is_a_plain_error(url: str) -> None:
    with pytest.raises(StoreError, match="cannot be read") as caught:
        await MongoServer(quick(url, "c_")).open()
    assert "sec" not in str(caught.value)


async def test_no_part_of_a_password_is_in_the_name_of_a_server() -> None:
    server = MongoServer(quick("mongodb+srv://node:sec/ret@a.invalid/x?tls=true", "c_"))
    with pytest.raises(StoreError):
        await server.open()
    assert server.label == "a.invalid"


async def test_tls(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=127.7.0.1", "-addext", "subjectAltName=IP:127.7.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    await trio.run_process(command, capture_stdout=True, capture_stderr=True)
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    with running_server(*files) as (server, _):
        place = f"mongodb://{server.host}:{server.port}/?{OPTIONS}&tls=true"
        assert await count(f"{place}&tlsCAFile={certificate}") == 1
        told = ""
        for limit_s in (0.5, 5.0, 60.0):  # the driver may need some time for its first try
            if "certificate" not in told:
                with pytest.raises(StoreError) as caught:
                    await count(place, limit_s)
                told = str(caught.value).lower()
        assert "certificate" in told
