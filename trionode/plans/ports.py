"""Ports of apps: who uses which, what may not be used, and the loop that tests one at a time.

Facts: docs/spec/lifecycle.md §18. Addresses are compared whole (D-18).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from trionode.plans.parts import Part
from trionode.registry.constants import MAINNET, Constants

BAD_MOST = 100
BAD_MANY = 80
PENALTY = 4
LIMIT = 100
SHORT_S = 15.0
ERROR_S = 60.0
BLOCKED_S = 240.0
LIMIT_S = 300.0
LONG_S = 3600.0
LAST_PORT = 65_535


def ports_of(parts: Iterable[Part]) -> tuple[int, ...]:
    """The host ports of an app."""
    return tuple(port for part in parts for port in part.ports)


def unusable_port(
    ports: Sequence[int],
    *,
    local: Mapping[str, Collection[int]],
    on_this_ip: Mapping[str, Collection[int]] | None = None,
    app: str = "",
    height: int = 0,
    constants: Constants = MAINNET,
) -> str | None:
    """Why an app cannot have its ports here, in a sentence; None when it can.

    `local`: ports of the apps installed here, `on_this_ip`: of apps on other nodes behind our address.
    `app` itself does not count.
    """
    least, most = constants.host_ports(height)
    if len(set(ports)) != len(ports):
        return "It uses a port twice."
    for port in ports:
        if not least <= port <= most or port in constants.banned_ports:
            return f"Port {port} may not be used."
        for where, used in (("here", local), ("on a node behind the same address", on_this_ip or {})):
            other = next((name for name, taken in used.items() if name != app and port in taken), None)
            if other is not None:
                return f"Port {port} is used {where} by {other}."
    return None


class PortWatch(msgspec.Struct, frozen=True):
    """The state of the availability loop. `bad`: ports found shut; `retest`: what is tried next."""

    bad: frozenset[int] = frozenset()
    retest: int | None = None
    upwards: bool = True
    first_bad: int | None = None
    penalty: float = 0.0


class PortVerdict(msgspec.Struct, frozen=True):
    """What a test changes: the new state, the pause, and the penalty if it is one now."""

    watch: PortWatch
    pause_s: float
    reason: str
    message: str | None = None


def next_port(watch: PortWatch, rng: random.Random, constants: Constants = MAINNET, height: int = 0) -> int:
    """The port to test: the one under retest, else any."""
    least, most = constants.host_ports(height)
    return watch.retest if watch.retest is not None else rng.randint(least, most)


def after_test(watch: PortWatch, port: int, *, reachable: bool, rng: random.Random) -> PortVerdict:
    """What follows from a test that took place."""
    return _well(watch, port) if reachable else _ill(watch, port, rng)


def _well(watch: PortWatch, port: int) -> PortVerdict:
    if len(watch.bad) > BAD_MANY:
        fewer = watch.bad - {port}
        if fewer == watch.bad:
            fewer = watch.bad - {max(watch.bad)}
        return PortVerdict(
            msgspec.structs.replace(watch, bad=fewer, retest=None),
            SHORT_S,
            "reachable again, many are not yet",
        )
    return PortVerdict(PortWatch(), LONG_S, "reachable")


def _ill(watch: PortWatch, port: int, rng: random.Random) -> PortVerdict:
    if len(watch.bad) < BAD_MOST:
        return _walk(watch, port)
    penalty = watch.penalty + PENALTY
    again = msgspec.structs.replace(watch, penalty=penalty, retest=rng.choice(sorted(watch.bad)))
    if penalty >= LIMIT:
        message = f"{len(watch.bad)} ports of this node cannot be reached from outside."
        return PortVerdict(again, LIMIT_S, "too many ports are shut", message)
    return PortVerdict(again, SHORT_S, "too many ports are shut")


def pass_over(watch: PortWatch, port: int) -> PortVerdict:
    """The port is banned, blocked or used: it cannot be tested, a walk goes on behind it."""
    if watch.retest is None:
        return PortVerdict(watch, SHORT_S, f"port {port} cannot be tested")
    return PortVerdict(_moved(watch, port), SHORT_S, f"port {port} cannot be tested")


def _walk(watch: PortWatch, port: int) -> PortVerdict:
    bad = msgspec.structs.replace(watch, bad=watch.bad | {port})
    return PortVerdict(_moved(bad, port), SHORT_S, f"port {port} cannot be reached")


def _moved(watch: PortWatch, port: int) -> PortWatch:
    """The neighbour next: up from the first bad one to the end, then down from it."""
    first = watch.first_bad if watch.first_bad is not None else port
    upwards = watch.upwards and port < LAST_PORT
    retest = port + 1 if upwards else (first if watch.upwards else port) - 1
    return msgspec.structs.replace(
        watch, retest=retest if retest > 0 else None, upwards=upwards, first_bad=first
    )
