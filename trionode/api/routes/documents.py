"""/openapi.json and /docs: what the node serves, for programs and for people."""

from __future__ import annotations

import html
from collections.abc import Iterable

from trionode.api.answers import Raw
from trionode.api.call import Call
from trionode.api.delivery import encode_json
from trionode.api.openapi import document
from trionode.api.route import Route

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>trionode API</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }} td, th {{ text-align: left; padding: .25rem .6rem }}
tr {{ border-bottom: 1px solid #8884 }} code {{ font-size: .92em }}
</style></head><body>
<h1>trionode API</h1>
<p>Answers are <code>{{"status", "data"}}</code>. The same as a document for programs:
<a href="/openapi.json">/openapi.json</a>.</p>
{groups}
</body></html>
"""


def routes(described: tuple[Route, ...]) -> tuple[Route, ...]:
    """The two routes that describe `described` (and not themselves)."""
    kept: dict[str, bytes] = {}

    async def openapi(call: Call) -> Raw:
        if "json" not in kept:
            kept["json"] = encode_json(document(described))
        return Raw(kept["json"], "application/json")

    async def page(call: Call) -> Raw:
        if "html" not in kept:
            kept["html"] = _page(described).encode()
        return Raw(kept["html"], "text/html; charset=utf-8")

    return (
        Route("/openapi.json", openapi, "This description", "documents", cache_s=30),
        Route("/docs", page, "This description as a page", "documents", cache_s=30, content_type="text/html"),
    )


def _page(described: Iterable[Route]) -> str:
    groups: dict[str, list[str]] = {}
    for route in described:
        path = route.path + "".join(f"/{{{param.name}}}" for param in route.params if not param.query_only)
        cells = (route.method, path, route.level.value, str(route.cache_s or ""), route.about)
        code = "".join(f"<td><code>{html.escape(cell)}</code></td>" for cell in cells[:2])
        text = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells[2:])
        groups.setdefault(route.group, []).append(f"<tr>{code}{text}</tr>")
    heading = "<tr><th>method</th><th>path</th><th>level</th><th>cache s</th><th></th></tr>"
    return _PAGE.format(
        groups="".join(
            f"<h2>{html.escape(group)}</h2><table>{heading}{''.join(rows)}</table>"
            for group, rows in groups.items()
        )
    )
