"""Checks between settings: values that are fine alone but not together."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from trionode.config.tree import Settings

_ORDERED = (
    ("gossip.intake_delay_min_ms", "gossip.intake_delay_max_ms"),
    ("images.update_first_min_s", "images.update_first_max_s"),
    ("supervisor.restart_delay_s", "supervisor.restart_delay_max_s"),
    ("peers.outbox_gossip_limit_bytes", "peers.outbox_limit_bytes"),
    ("peers.threshold_below", "peers.threshold_reached"),
    ("chain.confirmation_stale_s", "chain.confirmation_expired_s"),
    ("registry.min_port_legacy", "registry.max_port_legacy"),
    ("registry.min_instances", "registry.max_instances"),
    ("registry.min_instances_v8", "registry.max_instances"),
    ("system.lag_interval_s", "system.lag_window_s"),
)
"""Pairs whose first must not exceed their second."""

_STORES = ("sqlite:", "mongodb://", "mongodb+srv://")
_PORT_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


class Conflict(msgspec.Struct, frozen=True):
    """Settings that do not go together; `keys` names them, most to blame first."""

    keys: tuple[str, ...]
    message: str
    remedy: str


def value_of(settings: Settings, key: str) -> object:
    """The value of the setting with the full key `section.name`."""
    section, name = key.split(".", 1)
    value: object = getattr(getattr(settings, section), name)
    return value


def conflicts(settings: Settings) -> Iterator[Conflict]:
    """All conflicts, in a stable order."""
    node, network = settings.node, settings.network
    if node.api_port not in network.allowed_api_ports:
        allowed = ", ".join(map(str, network.allowed_api_ports))
        yield Conflict(
            ("node.api_port", "network.allowed_api_ports"),
            f"node.api_port = {node.api_port} is not a port that peers accept",
            f"use one of {allowed}",
        )
    for low, high in _ORDERED:
        small, large = value_of(settings, low), value_of(settings, high)
        assert isinstance(small, int | float)
        assert isinstance(large, int | float)
        if small > large:
            yield Conflict(
                (low, high),
                f"{low} = {small} is greater than {high} = {large}",
                "lower the first or raise the second",
            )
    url = settings.store.url
    if url not in ("", "memory:") and not url.startswith(_STORES):
        # What stands before an @ may be a password.
        shown = url.rpartition("@")[2]
        yield Conflict(
            ("store.url",),
            f"store.url = {shown!r} names no store that trionode knows",
            "use mongodb://HOST:PORT, sqlite:PATH or memory:, or leave it empty",
        )
    for key in ("registry.banned_ports", "registry.enterprise_ports"):
        entries = value_of(settings, key)
        assert isinstance(entries, tuple)
        for entry in entries:
            if not _is_port_range(entry):
                yield Conflict((key,), f"{key} holds {entry!r}", "write ports as 8080 or 8080-8090")
    for key in ("economy.prices", "registry.spec_heights"):
        rows = value_of(settings, key)
        assert isinstance(rows, tuple)
        heights = [row.height for row in rows]
        if heights != sorted(heights):
            yield Conflict((key,), f"{key} is not ordered by height", "sort it by height, lowest first")


def _is_port_range(entry: str) -> bool:
    match = _PORT_RANGE.fullmatch(entry)
    if match is None:
        return False
    first = int(match[1])
    last = int(match[2]) if match[2] else first
    return first <= last <= 65535
