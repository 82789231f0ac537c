"""The figures of the scale model as a table for people."""

from __future__ import annotations

from collections.abc import Callable

from trionode.sim.scale.study import Outcome, Picture, Plan, Times

_WIDTH = 15
_Cell = Callable[[Outcome], str]


def table(picture: Picture) -> str:
    """One network: what it is like, and a column for each way of relaying."""
    plan = picture.plan
    lines = [
        f"{plan.nodes:,} nodes, {picture.links:,} links: {picture.outbound_mean:.1f} dialled and "
        f"{picture.inbound_mean:.1f} accepted per node, {picture.peers_min} to {picture.peers_max} peers",
        f"half of the links take up to {picture.delay_half_ms:.0f} ms one way, nine tenths up to "
        f"{picture.delay_most_ms:.0f} ms ({_origin(plan)}; `trionode peers` shows yours)",
        f"{picture.messages_h:,.0f} messages an hour; a text of {picture.text_chars:,} characters "
        f"({plan.apps} apps) is {picture.text_bytes} bytes on the line, its announcement "
        f"{picture.present_bytes}",
        f"keeping the links costs {picture.upkeep_mb_h:.1f} MB per node and hour in each direction",
        "",
        f"{'':<36}" + "".join(f"{outcome.mode:>{_WIDTH}}" for outcome in picture.outcomes),
    ]
    lines += [
        f"  {name:<34}" + "".join(f"{cell(outcome):>{_WIDTH}}" for outcome in picture.outcomes)
        for name, cell in _rows(f"{plan.slow_bits_s / 1e6:g} Mbit/s")
    ]
    return "\n".join(lines)


def _origin(plan: Plan) -> str:
    return f"a sample of {len(plan.sample_ms)}" if plan.sample_ms else "assumed from places"


def _rows(slow: str) -> list[tuple[str, _Cell]]:
    return [
        ("nodes reached, %", lambda o: f"{o.reached * 100:.2f}"),
        ("hops, mean / longest", lambda o: f"{o.hops_mean:.1f} / {o.hops_max}"),
        ("until 50 % have it, s", lambda o: _seconds(o.times.half_s)),
        ("until 99 % have it, s", lambda o: _seconds(o.times.most_s)),
        ("until 100 % have it, s", lambda o: _seconds(o.times.all_s)),
        (f"uplinks of {slow}: 50 / 99 %, s", lambda o: _two(o.slow_times)),
        ("full texts per node and message", lambda o: f"{o.copies:.2f}"),
        ("  of them duplicates", lambda o: f"{o.duplicates:.2f}"),
        ("announcements per node and message", lambda o: f"{o.announcements:.2f}"),
        ("requests per node and message", lambda o: f"{o.requests:.2f}"),
        ("bytes per message, all nodes, MB", lambda o: f"{o.message_bytes / 1e6:.1f}"),
        ("bytes sent per node and message", lambda o: f"{o.node_out_bytes:,.0f}"),
        ("sent per node and hour, MB", lambda o: f"{o.out_mb_h:.1f}"),
        ("received per node and hour, MB", lambda o: f"{o.in_mb_h:.1f}"),
        ("sent per node, kbit/s", lambda o: f"{o.out_kbit_s:.0f}"),
        (f"use of an uplink of {slow}, %", lambda o: f"{o.slow_uplink_use * 100:.0f}"),
    ]


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _two(times: Times) -> str:
    return f"{_seconds(times.half_s)} / {_seconds(times.most_s)}"
