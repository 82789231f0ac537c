"""The spawner and the port tests for the operator: what they do and leave alone, and why (docs/api.md).

Our own route, public like everything that only reads.
"""

from __future__ import annotations

from trionode.api.answers import Answer, data
from trionode.api.appcall import containers_of_node
from trionode.api.call import Call
from trionode.api.dates import iso
from trionode.api.route import Route


async def spawner(call: Call) -> Answer:
    """Present step, apps put off, the ends of the last rounds; ports found shut."""
    spawning = containers_of_node(call).spawning
    status, ports = spawning.spawner.status, spawning.ports.status
    return data(
        {
            "doing": status.doing,
            "app": status.app or None,
            "nextInSeconds": status.next_in_s,
            "rounds": status.rounds,
            "installed": status.installed,
            "tried": status.tried,
            "failed": status.failed,
            "deferred": [
                {"app": entry.app, "reason": entry.reason, "until": iso(entry.due_ms)}
                for entry in status.deferred
            ],
            "last": [
                {
                    "at": iso(end.at_ms),
                    "app": end.app or None,
                    "reason": end.reason,
                    "installed": end.installed,
                    "pauseSeconds": end.pause_s,
                }
                for end in reversed(status.last)
            ],
            "ports": {
                "shut": list(ports.shut),
                "lastPort": ports.last_port,
                "last": ports.last or None,
                "penalty": ports.penalty,
            },
        }
    )


ROUTES = (
    Route(
        "/trionode/spawner",
        spawner,
        "What the spawner does and leaves alone, and how the ports were found",
        "trionode",
        result={"type": "object"},
    ),
)
