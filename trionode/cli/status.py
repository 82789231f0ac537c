"""`trionode status`: the node at one glance (/trionode/status, docs/api.md)."""

from __future__ import annotations

from typing import Any

import click

from trionode.cli import status_life, status_observer
from trionode.cli.client import NodeApi, api_of, api_option
from trionode.cli.render import duration, line, repeat, show_json, table

REJECTIONS_SHOWN = 12


@click.command()
@api_option
@click.option("--json", "as_json", is_flag=True, help="The whole answer as JSON.")
@click.option("--watch", is_flag=True, help="Show it again every 2 s.")
def command(api: str | None, as_json: bool, watch: bool) -> None:
    """Show how a running node is doing."""
    node = api_of(api)

    def draw() -> None:
        _draw(node, as_json=as_json, compact=watch)

    if watch:
        repeat(draw, clear=not as_json)
    draw()


def _draw(node: NodeApi, *, as_json: bool, compact: bool) -> None:
    found = node.get("/trionode/status")
    if as_json:
        show_json(found, compact=compact)
        return
    _overview(found)
    if found.get("observer"):
        status_observer.sources(found)
    services = [
        (
            service["name"],
            service["state"],
            "essential" if service["essential"] else "",
            service["crashes"],
            duration(service["readyForS"]),
            service["lastError"] or "",
        )
        for service in found["services"]
    ]
    click.echo()
    table(("service", "state", "", "crashes", "ready for", "last error"), services)
    rejected = found["rejected"][:REJECTIONS_SHOWN]
    if rejected:
        click.echo()
        rows = [(row["count"], row["room"], row["stop"], row["reason"]) for row in rejected]
        table(("rejected", "room", "stop", "reason"), rows)


def _overview(found: dict[str, Any]) -> None:
    line(
        "trionode",
        f"{found['version']} (as {found['compatibilityVersion']}), up {duration(found['uptimeS'])}",
    )
    if found.get("observer"):
        status_observer.overview(found)
    else:
        _node(found)
    lag = found["loopLag"]
    if lag is not None:
        line("loop lag", f"p99 {lag['p99Ms']:.1f} ms, worst {lag['maxMs']:.1f} ms (last minute)")


def _node(found: dict[str, Any]) -> None:
    node, peers, apps = found["node"], found["peers"], found["apps"]
    line("address", node["address"] or "unknown: the benchmark daemon has not told it yet")
    line("tier", f"{node['tier']}, rank {node['rank']}" if node["tier"] else "not in the node list")
    line("chain", _chain(found["chain"]))
    if found.get("orchestrator") is not None:
        _phase(found["orchestrator"])
    line(
        "peers",
        f"{peers['outbound']} out ({peers['outboundIps']} addresses), "
        f"{peers['inbound']} in ({peers['inboundIps']} addresses)",
    )
    line("apps", f"{apps['names']} names, {apps['locations']} locations")
    status_life.overview(found)
    dos = node["dos"]
    if dos["dosState"] or dos["dosMessage"]:
        sources = node.get("dosSources") or {}
        parts = ", ".join(f"{name} {amount:g}" for name, amount in sources.items())
        told = dos["dosMessage"] or (f"from {parts}" if parts else "no message")
        line("penalty", f"{dos['dosState']}: {told}")


def _phase(found: dict[str, Any]) -> None:
    """The phase, since when, and what is missing for READY: one line each."""
    since = "" if found["forS"] is None else f" for {duration(found['forS'])}"
    line("phase", f"{found['phase']}{since}")
    for number, what in enumerate(found["waitsFor"]):
        line("" if number else "waits for", what)


def _chain(chain: dict[str, Any]) -> str:
    if chain["reachable"] is None:
        return "daemon not asked yet"
    if not chain["reachable"]:
        return f"daemon does not answer: {chain['lastError']}"
    words = [
        f"height {chain['height']} of {chain['headers']}",
        "synced" if chain["synced"] else "not synced",
        "confirmed" if chain["confirmed"] else "not confirmed",
        "may send" if chain["canSend"] else "may not send",
        f"{chain['nodes']} nodes listed",
    ]
    return ", ".join(words)
