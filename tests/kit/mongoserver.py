"""A MongoDB for tests: SecantusDB in a process of its own, or the server that TRIONODE_TEST_MONGO names.

SecantusDB is never imported, only started and, by its process id, stopped. One server serves a whole test
worker; every test writes to databases with a prefix of its own, which are dropped when it ends.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pymongo
from faultproxy import bound
from pymongo.errors import OperationFailure, PyMongoError

REAL_SERVER = "TRIONODE_TEST_MONGO"
START_WITHIN_S = 120.0
STOP_WITHIN_S = 60.0
DROPPED_WITHIN_S = 120.0
WRITE_CONFLICT = 112
OPTIONS = "directConnection=true&heartbeatFrequencyMS=500"
"""SecantusDB says nothing of a new primary by itself, so a client has to look often."""


class TestServer(msgspec.Struct, frozen=True):
    """Where a server listens; `real` when it is not SecantusDB."""

    __test__ = False

    host: str
    port: int
    url: str
    real: bool = False

    def client(self) -> pymongo.MongoClient[dict[str, Any]]:
        """A plain client, as another program would use it."""
        return pymongo.MongoClient(self.url, serverSelectionTimeoutMS=60_000)

    def url_at(self, host: str, port: int) -> str:
        """The same server through another door (the fault proxy)."""
        return self.url.replace(f"{self.host}:{self.port}", f"{host}:{port}", 1)


class Databases(msgspec.Struct, frozen=True):
    """The databases of one test: those of `server` whose names begin with `prefix`."""

    server: TestServer
    prefix: str

    @property
    def url(self) -> str:
        return self.server.url

    def drop(self) -> None:
        """Also when a client that vanished has left a transaction: SecantusDB refuses while there is one."""
        deadline = time.monotonic() + DROPPED_WITHIN_S
        with self.server.client() as client:
            for name in client.list_database_names():
                while name.startswith(self.prefix):
                    try:
                        client.drop_database(name)
                        break
                    except OperationFailure as error:
                        if error.code != WRITE_CONFLICT or time.monotonic() > deadline:
                            raise
                    client.admin.command("killAllSessions", [])


def program() -> str | None:
    """The SecantusDB server of this interpreter, None when it is not installed."""
    beside = Path(sys.executable).with_name("secantusd-py")
    return str(beside) if beside.exists() else shutil.which("secantusd-py")


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_server(
    *more: str,
    host: str = "127.7.0.1",
    port: int | None = None,
    storage: str = ":memory:",
    kept: bool = False,
) -> Iterator[tuple[TestServer, subprocess.Popen[bytes]]]:
    """SecantusDB for the length of a block. `more` are options of its command line; `kept`: another one will
    need what it stored."""
    path = program()
    assert path is not None, "SecantusDB is missing: pip install -e '.[dev]'"
    options = ["--storage-path", storage, "--log-level", "ERROR", "--enable-test-commands", *more]
    process, port = _started([path, "--host", host, *options], host, port)
    try:
        yield TestServer(host, port, f"mongodb://{host}:{port}/?{OPTIONS}"), process
    finally:
        if kept:
            process.terminate()
        else:
            process.kill()  # putting in order what nobody needs would take two seconds
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _started(command: list[str], host: str, port: int | None) -> tuple[subprocess.Popen[bytes], int]:
    """A server that listens, and its port, which is held for it until it does."""
    with bound(host, port or 0) as place:
        chosen: int = place.getsockname()[1]
        # Its working folder must not hold a configuration file of the developer.
        process = subprocess.Popen(
            [*command, "--port", str(chosen)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        try:
            _opens(process, host, chosen)
        except BaseException:
            process.kill()
            process.wait()
            raise
    return process, chosen


def _opens(process: subprocess.Popen[bytes], host: str, port: int) -> None:
    """Wait until it listens."""
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "SecantusDB ended by itself"
        try:
            socket.create_connection((host, port), 10).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"SecantusDB did not open {host}:{port} within {START_WITHIN_S:.0f} s")


@contextmanager
def server_for_tests() -> Iterator[TestServer]:
    """The server that the whole suite shares."""
    url = os.environ.get(REAL_SERVER)
    if not url:
        with running_server() as (server, _):
            yield server
        return
    ((host, port), *_) = pymongo.uri_parser.parse_uri(url)["nodelist"]
    with pymongo.MongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=10_000) as client:
        try:
            client.admin.command("ping")
        except PyMongoError as error:
            raise AssertionError(f"{REAL_SERVER} names {url}, but nothing answers: {error}") from error
    yield TestServer(host, port or 27017, url, real=True)


@contextmanager
def databases(server: TestServer) -> Iterator[Databases]:
    """Room for one test."""
    made = Databases(server, f"t{uuid.uuid4().hex[:10]}_")
    try:
        yield made
    finally:
        made.drop()
