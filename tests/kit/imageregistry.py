"""Debian's docker-registry as a process of the tests: on a loopback address, in a folder of its own.

The engine pushes to it and pulls from it over plain HTTP, as it does with all of 127.0.0.0/8.
"""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import dockerengine
import msgspec
import trio
from busyboximages import import_image
from Crypto.Protocol.KDF import bcrypt
from engineapi import EngineApi
from mongoserver import free_port

START_WITHIN_S = 30.0
STOP_WITHIN_S = 10.0
BCRYPT_COST = 4


def why_not() -> str | None:
    """Why no registry can be started here, None when one can."""
    if shutil.which("docker-registry") is None:
        return "docker-registry is not installed (Debian: apt-get install docker-registry)"
    return None


class TestRegistry(msgspec.Struct, frozen=True):
    """A registry that runs. `pid` is its process."""

    __test__ = False

    host: str
    port: int
    folder: Path
    pid: int

    def image(self, name: str) -> str:
        """`name:tag` as an engine names it: with the address of this registry."""
        return f"{self.host}:{self.port}/{name}"

    def push(
        self, api: EngineApi, local: str, name: str = "", credentials: tuple[str, str] | None = None
    ) -> str:
        """Pushes the engine's image `local` as `name` (the same name if none); the digest of its manifest.

        What the engine keeps of it is only `local`, so that a pull has something to do.
        """
        there = self.image(name or local)
        api.tag(local, there)
        digest = api.push(there, credentials)
        api.remove_image(there)
        return digest

    def publish(self, api: EngineApi, name: str, marker: str = "1", **image: object) -> str:
        """Makes a busybox image and pushes it as `name:tag`; its digest. Another marker, another digest.

        `image` are arguments of `busyboximages.import_image`.
        """
        local = f"published/{marker}-{os.getpid()}:made"
        import_image(api, local, changes=[f"LABEL marker={marker}"], **image)  # type: ignore[arg-type]
        digest = self.push(api, local, name)
        api.remove_image(local)
        return digest


@contextmanager
def running_registry(
    folder: Path,
    *,
    host: str = "127.0.0.77",
    port: int | None = None,
    users: Mapping[str, str] | None = None,
) -> Iterator[TestRegistry]:
    """A registry for the length of a block; with `users` (name -> password) it wants a login (Basic)."""
    port = free_port(host) if port is None else port
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yml").write_text(_config(folder, host, port, users))
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log, cwd="/"
        )
    try:
        _wait_until_open(process, host, port, folder / "log")
        yield TestRegistry(host, port, folder, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@asynccontextmanager
async def start_registry(
    folder: Path,
    *,
    host: str = "127.0.0.77",
    port: int | None = None,
    users: Mapping[str, str] | None = None,
) -> AsyncIterator[TestRegistry]:
    """The same for async tests. The same port again brings back what the folder holds."""
    block = running_registry(folder, host=host, port=port, users=users)
    registry = await trio.to_thread.run_sync(block.__enter__)
    try:
        yield registry
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(block.__exit__, None, None, None)


def _config(folder: Path, host: str, port: int, users: Mapping[str, str] | None) -> str:
    lines = [
        "version: 0.1",
        "log: {level: warn}",
        "storage:",
        f"  filesystem: {{rootdirectory: {folder}/data}}",
        "  delete: {enabled: true}",
        f"http: {{addr: '{host}:{port}'}}",
    ]
    if users is not None:
        entries = [f"{name}:{bcrypt(word, BCRYPT_COST).decode()}" for name, word in users.items()]
        (folder / "htpasswd").write_text("\n".join(entries) + "\n")
        lines.append(f"auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}")
    return "\n".join(lines) + "\n"


def _wait_until_open(process: subprocess.Popen[bytes], host: str, port: int, log: Path) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while True:
        assert process.poll() is None, f"docker-registry ended by itself:\n{log.read_text()}"
        connection = http.client.HTTPConnection(host, port, timeout=2)
        try:
            connection.request("GET", "/v2/")
            if connection.getresponse().status in (200, 401):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise dockerengine.EngineFailedError(f"docker-registry does not answer: {error}") from error
        finally:
            connection.close()
        time.sleep(0.02)
