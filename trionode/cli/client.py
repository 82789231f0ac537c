"""Asking a running node over its HTTP API, with the standard library only.

Light on purpose: `trionode status` must be there at once. Which node: `--api URL`, else
$TRIONODE_API, else the address in the configuration file, else this machine's default port.
"""

from __future__ import annotations

import http.client
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import click

from trionode.cli.context import Invocation
from trionode.config.paths import config_path
from trionode.errors import TrionodeError

API_VARIABLE = "TRIONODE_API"
DEFAULT_PORT = 16127
TIMEOUT_S = 10.0
STREAM_TIMEOUT_S = 60.0
ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}

Command = TypeVar("Command", bound=Callable[..., Any])


class NodeUnreachable(TrionodeError):
    """No usable HTTP answer came from the node."""

    code = "unreachable"


class NodeRefused(TrionodeError):
    """The node answered with an error."""

    code = "refused"


class StreamLost(TrionodeError):
    """The event stream ended or broke."""

    code = "unreachable"


class NodeApi:
    """The API at `http://host:port`. One short connection per question."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def get(
        self,
        path: str,
        query: Mapping[str, str | None] | None = None,
        *,
        zelidauth: str | None = None,
        timeout_s: float | None = TIMEOUT_S,
    ) -> Any:
        """`data` of a successful answer. Raises NodeUnreachable or NodeRefused."""
        return self.get_whole(path, query, zelidauth=zelidauth, timeout_s=timeout_s).get("data")

    def get_whole(
        self,
        path: str,
        query: Mapping[str, str | None] | None = None,
        *,
        zelidauth: str | None = None,
        timeout_s: float | None = TIMEOUT_S,
    ) -> dict[str, Any]:
        """The whole envelope of a successful answer, for those with members beside `data`."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = quote(path) + (f"?{urlencode(given)}" if given else "")
        return self._ask("GET", target, zelidauth=zelidauth, timeout_s=timeout_s)

    def post(self, path: str, body: Any) -> Any:
        """The same for a body of JSON."""
        return self._ask("POST", quote(path), body=json.dumps(body).encode())["data"]

    def _ask(
        self,
        method: str,
        target: str,
        *,
        body: bytes | None = None,
        zelidauth: str | None = None,
        timeout_s: float | None = TIMEOUT_S,
    ) -> dict[str, Any]:
        path = target.partition("?")[0]
        headers = {"x-apicache-bypass": "true", "Content-Type": "application/json"}
        if zelidauth is not None:
            headers["zelidauth"] = zelidauth
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        try:
            connection.request(method, target, body=body, headers=headers)
            envelope: dict[str, Any] = json.loads(connection.getresponse().read())
            status, data = envelope["status"], envelope.get("data")
            if not isinstance(status, str):
                raise TypeError("status is no text")
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise NodeUnreachable(
                f"{self.url}{path} did not answer like a trionode node",
                remedy="check which program listens there",
            ) from error
        finally:
            connection.close()
        if status != "success":
            text = data.get("message") if isinstance(data, dict) else data
            raise NodeRefused(f"{self.url}{path}: {text}")
        return envelope

    def _unreachable(self, error: Exception) -> NodeUnreachable:
        return NodeUnreachable(
            f"no node answers at {self.url} ({str(error) or type(error).__name__})",
            remedy="start one with `trionode run`, or name another with --api URL or $TRIONODE_API",
        )

    def stream(self, after_id: int) -> Iterator[tuple[int | None, str, Any]]:
        """(id, name, data) of live events newer than `after_id` (0: everything kept first).

        Raises NodeUnreachable or NodeRefused at the start, StreamLost when the stream ends.
        """
        connection = http.client.HTTPConnection(self.host, self.port, timeout=STREAM_TIMEOUT_S)
        try:
            connection.request("GET", "/flux/eventstream", headers={"Last-Event-ID": str(after_id)})
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._unreachable(error) from error
        try:
            if response.status != 200:
                raise NodeRefused(
                    f"{self.url} serves no event stream (HTTP {response.status})",
                    remedy="set api.event_stream = true in its configuration",
                )
            yield from _records(response)
        except (OSError, http.client.HTTPException) as error:
            raise StreamLost(f"event stream of {self.url} broke: {error}") from error
        finally:
            connection.close()
        raise StreamLost(f"event stream of {self.url} ended", remedy="the node has stopped or restarted")


def _records(lines: Iterator[bytes] | http.client.HTTPResponse) -> Iterator[tuple[int | None, str, Any]]:
    """Records of a server-sent event stream; comments are skipped."""
    name, data, number = "", "", None
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            if data:
                yield number, name, json.loads(data)
            name, data, number = "", "", None
            continue
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            data += value
        elif field == "id" and value.isdigit():
            number = int(value)


def resolve(api: str | None, config: str | None, env: Mapping[str, str], here: Path) -> NodeApi:
    """Which node to ask; see the module's docstring. Raises NodeRefused for a bad URL."""
    given = api or env.get(API_VARIABLE)
    if given:
        return _from_url(given)
    path = config_path(config, env, here)
    node: Any = {}
    if path is not None:
        try:
            node = tomllib.loads(path.read_text("utf-8")).get("node", {})
        except (OSError, ValueError) as error:
            raise NodeRefused(
                f"cannot read {path}: {error}", remedy="name the node with --api URL, or check the file"
            ) from error
    host, port = node.get("bind_host", ""), node.get("api_port", DEFAULT_PORT)
    host = ANY_HOST.get(host, host) if isinstance(host, str) else "127.0.0.1"
    return NodeApi(host, port if isinstance(port, int) else DEFAULT_PORT)


def _from_url(text: str) -> NodeApi:
    try:
        parts = urlsplit(text if "//" in text else f"//{text}", scheme="http")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise NodeRefused(f"{text!r} is no API address: {error}", remedy="write http://HOST:PORT") from error
    if parts.scheme != "http" or not host:
        raise NodeRefused(f"{text!r} is no API address", remedy="write http://HOST:PORT")
    return NodeApi(host, port or DEFAULT_PORT)


def api_option(command: Command) -> Command:
    """The `--api` option of every command that asks a node."""
    return click.option("--api", metavar="URL", help="API of the node, e.g. http://127.0.0.1:16127.")(command)


def api_of(api: str | None) -> NodeApi:
    """The node the present command is about; `--config` is an option of the whole program."""
    invocation = click.get_current_context().find_object(Invocation) or Invocation()
    return resolve(api, invocation.config, invocation.env, Path.cwd())
