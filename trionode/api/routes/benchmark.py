"""The benchmark daemon seen through the node (docs/spec/api.md §3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from trionode.api.answers import Answer, Reply, data
from trionode.api.call import Call
from trionode.api.route import Route
from trionode.api.routes.chain import ask


def _asks(method: str) -> Callable[[Call], Awaitable[Reply]]:
    async def handler(call: Call) -> Answer:
        return data(await ask(call.context.bench, method))

    return handler


ROUTES = tuple(
    Route(f"/benchmark/{name}", _asks(name), about, "benchmark", cache_s=30)
    for name, about in (
        ("getstatus", "State of the benchmark daemon"),
        ("getbenchmarks", "Measurements of this host"),
        ("getinfo", "Version of the benchmark daemon"),
    )
)
