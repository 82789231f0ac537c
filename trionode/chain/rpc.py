"""HttpRpc: the JSON-RPC client of the chain daemon and of the benchmark daemon (daemon-rpc.md §2).

No retry here: every caller decides for itself. Caching as in §3, only where a cache is handed in.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Self

import msgspec
import trio

from trionode.chain.conf import DaemonConf
from trionode.chain.http1 import HttpPoster, HttpReply
from trionode.chain.methods import BENCH_METHODS, DAEMON_METHODS
from trionode.chain.port import RpcParams
from trionode.chain.rpccache import MISS, ResultCache
from trionode.config.tree import ChainSettings
from trionode.errors import ChainError

ID_COUNT = 1000
SHOWN_BODY_CHARACTERS = 200


class HttpRpc:
    """Calls to one daemon over HTTP POST with basic auth; implements `ChainRpc`.

    `parallel_calls` bounds the single calls in flight (None: unbounded); batches are outside of
    that limit and of the cache. `known_methods`, if given, refuses other names locally (-32601).
    """

    def __init__(
        self,
        host: str,
        port: int,
        user: str,
        password: str,
        *,
        timeout_s: float,
        parallel_calls: int | None = 5,
        cache: ResultCache | None = None,
        source_ip: str | None = None,
        known_methods: frozenset[str] | None = None,
        max_body_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        token = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
        self._poster = HttpPoster(
            host,
            port,
            headers=(("Authorization", f"Basic {token}"),),
            source_ip=source_ip,
            max_body_bytes=max_body_bytes,
        )
        self._timeout_s = timeout_s
        self._limiter = None if parallel_calls is None else trio.Semaphore(parallel_calls)
        self._cache = cache
        self._known_methods = known_methods
        self._next_id = 0

    @property
    def target(self) -> str:
        """`host:port`, for messages."""
        return self._poster.target

    async def call(self, method: str, params: RpcParams = (), *, fresh: bool = False) -> Any:
        """Result of one call; see `ChainRpc.call`. The time-out covers the exchange, not the queue."""
        method = self._check_method(method)
        await trio.lowlevel.checkpoint()
        if self._cache is not None and not fresh:
            remembered = self._cache.get(method, params)
            if remembered is not MISS:
                return remembered
        body = msgspec.json.encode(_request(self._take_id(), method, params))
        async with AsyncExitStack() as stack:
            if self._limiter is not None:
                await stack.enter_async_context(self._limiter)
            reply = await self._poster.post(body, timeout_s=self._timeout_s)
        result = _result_of(self._decode(reply), self.target)
        if self._cache is not None and not fresh:
            self._cache.put(method, params, result)
        return result

    async def batch(self, calls: Sequence[tuple[str, RpcParams]]) -> list[Any]:
        """Results in the order of `calls`; see `ChainRpc.batch`."""
        if not calls:
            await trio.lowlevel.checkpoint()
            return []
        requests = [
            _request(index, self._check_method(method), params)
            for index, (method, params) in enumerate(calls)
        ]
        reply = await self._poster.post(msgspec.json.encode(requests), timeout_s=self._timeout_s)
        answer = self._decode(reply)
        if not isinstance(answer, list):
            _result_of(answer, self.target)
            raise ChainError(
                f"{self.target} answered a batch with something that is no list",
                remedy="the daemon may not support batches",
            )
        by_id = {item.get("id"): item for item in answer if isinstance(item, dict)}
        results: list[Any] = []
        for index, (method, _) in enumerate(calls):
            item = by_id.get(index)
            try:
                if item is None:
                    raise ChainError(f"{self.target} left out item {index} ({method}) of a batch")
                results.append(_result_of(item, self.target))
            except ChainError as error:
                results.append(error)
        return results

    def close(self) -> None:
        """Close the idle connections, those in use after their call. Whoever made the client calls it."""
        self._poster.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take_id(self) -> int:
        taken = self._next_id
        self._next_id = (taken + 1) % ID_COUNT
        return taken

    def _check_method(self, method: str) -> str:
        method = method.lower()
        if self._known_methods is not None and method not in self._known_methods:
            raise ChainError(
                f"{method!r} is no command of the daemon",
                remedy="use one of the daemon's RPC commands",
                rpc_code=-32601,
            )
        return method

    def _decode(self, reply: HttpReply) -> Any:
        try:
            return msgspec.json.decode(reply.body)
        except msgspec.DecodeError as error:
            text = reply.body.decode("utf-8", "replace").strip()
            if reply.status == 401:
                remedy = "check the RPC user and password (flux.conf, chain.daemon_user / chain.bench_user)"
            else:
                remedy = "check that the port belongs to the daemon's RPC"
            shown = text[:SHOWN_BODY_CHARACTERS] or "an empty body"
            raise ChainError(
                f"{self.target} answered {reply.status} {reply.reason} with {shown}", remedy=remedy
            ) from error


def _request(request_id: int, method: str, params: RpcParams) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": list(params)}


def _result_of(answer: Any, target: str) -> Any:
    """The result of one reply object; its error object becomes a ChainError."""
    if not isinstance(answer, dict):
        raise ChainError(
            f"{target} answered with JSON that is no RPC reply",
            remedy="check that the port belongs to the daemon's RPC",
        )
    error = answer.get("error")
    if error:
        details = error if isinstance(error, dict) else {"message": error}
        code = details.get("code", 500)
        raise ChainError(
            str(details.get("message") or "the daemon reported an error without a message"),
            rpc_code=code if isinstance(code, int | str) else 500,
        )
    if "result" not in answer:
        raise ChainError(
            f"{target} answered with neither a result nor an error",
            remedy="check that the port belongs to the daemon's RPC",
        )
    return answer["result"]


def daemon_rpc(
    settings: ChainSettings,
    conf: DaemonConf,
    *,
    source_ip: str | None = None,
    now_s: Callable[[], float] = trio.current_time,
) -> HttpRpc:
    """The chain daemon's client; a setting that is given wins over flux.conf."""
    return HttpRpc(
        settings.daemon_host,
        settings.daemon_port or conf.rpc_port,
        settings.daemon_user or conf.rpc_user,
        settings.daemon_password or conf.rpc_password,
        timeout_s=settings.daemon_timeout_s,
        parallel_calls=settings.daemon_parallel_calls,
        cache=ResultCache(now_s),
        source_ip=source_ip,
        known_methods=DAEMON_METHODS,
    )


def bench_rpc(
    settings: ChainSettings, *, source_ip: str | None = None, has_flux_folder: bool = False
) -> HttpRpc:
    """The benchmark daemon's client: no cache, no limit of calls in flight.

    `has_flux_folder`: the folder of daemon-rpc.md §2 exists, which decides the default credentials.
    """
    prefix = "flux" if has_flux_folder else "zel"
    return HttpRpc(
        settings.bench_host,
        settings.bench_port,
        settings.bench_user or f"{prefix}benchuser",
        settings.bench_password or f"{prefix}benchpassword",
        timeout_s=settings.bench_timeout_s,
        parallel_calls=None,
        source_ip=source_ip,
        known_methods=BENCH_METHODS,
    )
