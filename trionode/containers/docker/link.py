"""The one place that knows asyncio: requests to the Docker engine by aiodocker, inside a trio-asyncio loop.

The loop lives in a task of its own, so nothing of asyncio is seen by the tasks that call; a cancelled Trio
scope cancels the request, and what was open is closed (docs/spec/lifecycle.md §13). Imported only where an
engine is used: aiodocker takes time and memory to load.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlencode

import aiodocker
import aiohttp
import trio
import trio_asyncio
from yarl import URL

from trionode.containers.docker.answers import choose_version, error_of
from trionode.containers.engine import EngineUnreachable
from trionode.errors import ConfigError
from trionode.runtime.logs import get_logger

T = TypeVar("T")
REMEDY = "is the engine's service running, and may this user open its socket?"
LONGEST_CALL_S = 600.0
"""No call takes this long: an engine that is frozen must not hold up for ever who forgot to set a limit."""
_BROKEN = (aiohttp.ClientError, OSError, EOFError)

log = get_logger("containers.docker")


class DockerStream:
    """The body of an answer, as it comes."""

    def __init__(self, link: DockerLink, response: aiohttp.ClientResponse) -> None:
        self._link = link
        self._response = response

    async def receive(self) -> bytes:
        """The next piece, b"" at the end. A cancelled call loses nothing."""
        return await self._link.run(self._response.content.readany())


class DockerLink:
    """Requests to one engine. `url`: unix:///path or tcp://host:port."""

    def __init__(self, url: str, loop: Any, client: aiodocker.Docker) -> None:
        self.url = url
        self._loop = loop
        self._client = client
        self._version = ""
        self.is_closed = False
        """Nothing can be asked any more."""

    async def call(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        secrets: Iterable[str] = (),
    ) -> bytes:
        """The whole answer. `doing`: for error texts; `secrets`: what these must not hold."""
        with trio.move_on_after(LONGEST_CALL_S):
            version_path = await self._versioned(path)
            return await self.run(
                self._call(method, version_path, doing, query=query, body=body, secrets=secrets)
            )
        raise EngineUnreachable(
            f"the engine at {self.url} did not {doing} within {LONGEST_CALL_S:g} s", remedy=REMEDY
        )

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
    ) -> AsyncGenerator[DockerStream, None]:
        """An answer as it comes; the connection is closed with the block."""
        response = await self.run(
            self._open(
                method,
                await self._versioned(path),
                doing,
                query=query,
                body=body,
                headers=headers,
                secrets=secrets,
            )
        )
        try:
            yield DockerStream(self, response)
        finally:
            response.close()

    async def version(self) -> bytes:
        """The engine's answer about its versions."""
        return await self.run(self._call("GET", "version", "ask for the version of the engine"))

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something of asyncio's; its errors come out as ours."""
        try:
            result: T = await self._loop.run_aio_coroutine(work)
        except _BROKEN as error:
            # The engine behind the socket may be another one when it answers again.
            self._version = ""
            raise EngineUnreachable(
                f"no answer from the engine at {self.url}: {str(error) or type(error).__name__}",
                remedy=REMEDY,
            ) from None
        except asyncio.CancelledError:
            raise self._closed_error() from None
        except RuntimeError:
            if self.is_closed:
                raise self._closed_error() from None
            raise
        return result

    async def _versioned(self, path: str) -> str:
        if not self._version:
            self._version = choose_version(await self.version())
        return f"v{self._version}/{path}"

    async def _call(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        secrets: Iterable[str] = (),
    ) -> bytes:
        response = await self._open(method, path, doing, query=query, body=body, secrets=secrets)
        # Interrupted, it closes its connection; read whole, it gives it back.
        return await response.read()

    async def _open(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
    ) -> aiohttp.ClientResponse:
        sent = {"Content-Type": "application/json", **(headers or {})}
        # Names are written as the engine wants them: with slashes, and quoted already.
        url = URL(f"{self._client.docker_host}/{path}{_query(query)}", encoded=True)
        response = await self._client.session.request(method, url, data=body, headers=sent)
        if response.status < 400:
            return response
        content = await response.read()
        raise error_of(response.status, content, doing=doing, secrets=secrets)

    def _closed_error(self) -> EngineUnreachable:
        return EngineUnreachable(f"the connection to the engine at {self.url} was closed")


def _query(query: Mapping[str, str] | None) -> str:
    return f"?{urlencode(query)}" if query else ""


@asynccontextmanager
async def open_link(url: str) -> AsyncIterator[DockerLink]:
    """A link for the length of a block. Whether the engine is there is seen at the first call.

    Raises ConfigError for an address of another kind.
    """
    if not url.startswith(("unix:///", "tcp://")):
        raise ConfigError(
            f"{url!r} is no address of an engine", remedy="write unix:///path or tcp://host:port"
        )
    failure: Exception | None = None
    keeper = _Keeper(url)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        try:
            # Not `nursery.start`: cancelled meanwhile, it would wait for a task that nobody told to end.
            await keeper.opened.wait()
            assert keeper.link is not None
            yield keeper.link
        except Exception as error:  # noqa: BLE001 - raised again outside of the nursery, which would wrap it
            failure = error
        finally:
            keeper.leaving.set()
    if failure is not None:
        raise failure


class _Keeper:
    """Keeps the loop. It outlives the cancellation of the block, which may have containers to stop yet."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.link: DockerLink | None = None
        self.opened = trio.Event()
        self.leaving = trio.Event()

    async def run(self) -> None:
        with trio.CancelScope(shield=True):
            async with trio_asyncio.open_loop() as loop:
                loop.set_exception_handler(_report)
                connector, client = await loop.run_aio_coroutine(_open_client(self._url))
                link = self.link = DockerLink(self._url, loop, client)
                try:
                    self.opened.set()
                    await self.leaving.wait()
                finally:
                    link.is_closed = True
                    await loop.run_aio_coroutine(_close_client(connector, client))


async def _open_client(url: str) -> tuple[aiohttp.BaseConnector, aiodocker.Docker]:
    # Streams keep their connections: a limit on connections would let them starve the calls.
    path = url.removeprefix("unix://")
    connector: aiohttp.BaseConnector = (
        aiohttp.UnixConnector(path, limit=0) if path != url else aiohttp.TCPConnector(limit=0)
    )
    host = "http://localhost" if path != url else url.replace("tcp://", "http://", 1)
    return connector, aiodocker.Docker(url=host, connector=connector)


async def _close_client(connector: aiohttp.BaseConnector, client: aiodocker.Docker) -> None:
    # Calls under way end here, and not somewhere in a client that is half closed.
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await client.close()
    await connector.close()


def _report(_loop: Any, context: Mapping[str, Any]) -> None:
    """Errors nobody waits for: told, never the end of the node."""
    error = context.get("exception")
    log.error("error in the engine's client", problem=str(context.get("message")), kind=type(error).__name__)
