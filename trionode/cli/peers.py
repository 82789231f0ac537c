"""`trionode peers`: live links, sorted by direction and latency (/flux/peers, docs/spec/api.md §6)."""

from __future__ import annotations

import click

from trionode.cli.client import NodeApi, api_of, api_option
from trionode.cli.render import duration, repeat, show_json, size, table

HEADINGS = ("peer", "dir", "ms", "missed", "up", "source", "version", "received", "sent", "bad", "caps")
SHORT_CAPABILITIES = {
    "transmissionTimestamps": "T",
    "peerExchange": "X",
    "binaryMessages": "B",
    "appStateSync": "S",
}


@click.command()
@api_option
@click.option("--json", "as_json", is_flag=True, help="The rows as JSON.")
@click.option("--watch", is_flag=True, help="Show them again every 2 s.")
def command(api: str | None, as_json: bool, watch: bool) -> None:
    """Show the peers of a running node.

    Capabilities: T timestamps, X peer exchange, B binary messages, S state sync.
    """
    node = api_of(api)

    def draw() -> None:
        _draw(node, as_json=as_json, compact=watch)

    if watch:
        repeat(draw, clear=not as_json)
    draw()


def _draw(node: NodeApi, *, as_json: bool, compact: bool) -> None:
    rows = node.get("/flux/peers")
    rows.sort(key=lambda row: (row["direction"] != "outbound", row["latency"] or 0, row["ip"], row["port"]))
    if as_json:
        show_json(rows, compact=compact)
        return
    outbound = sum(row["direction"] == "outbound" for row in rows)
    shown = [
        (
            f"{row['ip']}:{row['port']}",
            {"outbound": "out", "inbound": "in"}.get(row["direction"], row["direction"]),
            row["latency"],
            row["missedPongs"],
            duration(row["uptime"] / 1000),
            row["source"],
            row["remoteVersion"],
            f"{row['messagesReceived']} / {size(row['bytesReceived'])}",
            f"{row['messagesSent']} / {size(row['bytesSent'])}",
            row["badMessages"],
            "".join(sorted(SHORT_CAPABILITIES.get(name, "?") for name in row["capabilities"])),
        )
        for row in rows
    ]
    table(HEADINGS, shown, title=f"{outbound} outbound, {len(rows) - outbound} inbound")
