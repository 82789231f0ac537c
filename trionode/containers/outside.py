"""Asking outside services over HTTP and HTTPS: small JSON documents, bounded in size and time.

For the services of docs/spec/config.md §2 (address look-up, published lists). Trio and h11 only; HTTPS is
checked against the system's certificates.
"""

from __future__ import annotations

import ssl
from typing import Any, Protocol
from urllib.parse import urlsplit

import h11
import msgspec
import trio

from trionode.errors import TrionodeError

READ_BYTES = 64 * 1024
MAX_HEAD_BYTES = 64 * 1024
BODY_LIMIT_BYTES = 4 * 1024 * 1024
PORTS = {"http": 80, "https": 443}


class OutsideError(TrionodeError):
    """An outside service did not give what it was asked for."""

    code = "outside"


class JsonSource(Protocol):
    """Documents of outside services."""

    async def get_json(self, url: str) -> Any:
        """The JSON value at a URL. Raises OutsideError."""
        ...


class OutsideHttp:
    """`JsonSource` over the internet, one connection per request. `timeout_s` bounds one whole answer."""

    def __init__(self, timeout_s: float, *, source_ip: str | None = None) -> None:
        self._timeout_s = timeout_s
        self._source_ip = source_ip

    async def get_json(self, url: str) -> Any:
        """See `JsonSource.get_json`."""
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.hostname:
            raise OutsideError(f"{url} is no address of a service", remedy="set an http or https URL")
        body: bytes | None = None
        with trio.move_on_after(self._timeout_s):
            try:
                body = await self._get(url)
            except (OSError, trio.BrokenResourceError, h11.ProtocolError) as error:
                raise _failed(url, str(error) or type(error).__name__) from error
        if body is None:
            raise _failed(url, f"no answer within {self._timeout_s:g} s")
        try:
            return msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            raise _failed(url, "the answer is no JSON") from error

    async def _get(self, url: str) -> bytes:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        raw = await trio.open_tcp_stream(host, port, local_address=self._source_ip)
        stream: trio.abc.Stream = raw
        if parts.scheme == "https":
            context = ssl.create_default_context()
            stream = trio.SSLStream(raw, context, server_hostname=host, https_compatible=True)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            return await _exchange(stream, parts.netloc.rpartition("@")[2], target, url)
        finally:
            await trio.aclose_forcefully(stream)


async def _exchange(stream: trio.abc.Stream, host: str, target: str, url: str) -> bytes:
    state = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    headers = [("Host", host), ("Accept", "application/json"), ("User-Agent", "trionode")]
    request = h11.Request(method="GET", target=target, headers=[*headers, ("Connection", "close")])
    await stream.send_all((state.send(request) or b"") + (state.send(h11.EndOfMessage()) or b""))
    status, body = 0, bytearray()
    while True:
        event = state.next_event()
        if event is h11.NEED_DATA:
            state.receive_data(bytes(await stream.receive_some(READ_BYTES)))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > BODY_LIMIT_BYTES:
                raise _failed(url, "the answer is too long")
        elif isinstance(event, h11.EndOfMessage):
            break
        elif not isinstance(event, h11.InformationalResponse):
            raise _failed(url, "it hung up before the end of its answer")
    if status != 200:
        raise _failed(url, f"it answered with status {status}")
    return bytes(body)


def _failed(url: str, why: str) -> OutsideError:
    return OutsideError(f"{url}: {why}", remedy="it is asked again later")
