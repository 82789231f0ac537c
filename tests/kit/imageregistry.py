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

START_WITHIN_S = 120.0
STOP_WITHIN_S = 60.0
BCRYPT_COST = 4
TRIES = 5


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
    folder.mkdir(parents=True, exist_ok=True)
    process, port = _started(folder, host, port, users)
    try:
        yield TestRegistry(host, port, folder, process.pid)
    finally:
        _end(process)


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


def _started(
    folder: Path, host: str, port: int | None, users: Mapping[str, str] | None
) -> tuple[subprocess.Popen[bytes], int]:
    """A registry that answers, and its port. A free port may be somebody else's a moment later."""
    for chosen in [free_port(host) for _ in range(TRIES)] if port is None else [port]:
        (folder / "config.yml").write_text(_config(folder, host, chosen, users))
        with (folder / "log").open("ab") as log:
            words = ["docker-registry", "serve", str(folder / "config.yml")]
            process = subprocess.Popen(words, stdout=log, stderr=log, cwd="/")
        try:
            if _opens(process, host, chosen):
                return process, chosen
        except BaseException:
            _end(process)
            raise
    raise dockerengine.EngineFailedError(
        f"docker-registry ended by itself:\n{(folder / 'log').read_text(errors='replace')}"
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _opens(process: subprocess.Popen[bytes], host: str, port: int) -> bool:
    """Whether it comes to answer; False when it ended."""
    deadline = time.monotonic() + START_WITHIN_S
    while True:
        if process.poll() is not None:
            return False
        connection = http.client.HTTPConnection(host, port, timeout=10)
        try:
            connection.request("GET", "/v2/")
            if connection.getresponse().status in (200, 401):
                return True
        except OSError as error:
            if time.monotonic() > deadline:
                raise dockerengine.EngineFailedError(f"docker-registry does not answer: {error}") from error
        finally:
            connection.close()
        time.sleep(0.02)
