"""What the benches share: timing, ratios against a baseline of the same run, table and --json output.

Rates are per second of CPU time of the measuring thread where `cpu` is asked for, so that a busy machine
does not blur them, else per second of wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec


class Row(msgspec.Struct, kw_only=True):
    """One measured figure. `goal` with `better` says what it should reach; `baseline` names its yardstick."""

    name: str
    value: float
    unit: str
    baseline: str = ""
    ratio: float | None = None
    goal: float | None = None
    better: Literal["higher", "lower"] = "higher"
    note: str = ""

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal


class Bench:
    """Collects rows; `baseline` refers to rows measured earlier in the same run."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.rows: list[Row] = []

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        baseline: str = "",
        goal: float | None = None,
        better: Literal["higher", "lower"] = "higher",
        note: str = "",
    ) -> Row:
        """Keep a figure; its ratio is value / value of the row called `baseline`."""
        ratio = None
        if baseline:
            known = next(row for row in self.rows if row.name == baseline)
            ratio = value / known.value if known.value else None
        row = Row(
            name=name,
            value=value,
            unit=unit,
            baseline=baseline,
            ratio=ratio,
            goal=goal,
            better=better,
            note=note,
        )
        self.rows.append(row)
        return row

    def rate(
        self,
        name: str,
        call: Callable[[], object],
        *,
        calls: int = 1,
        baseline: str = "",
        goal: float | None = None,
        seconds: float = 0.5,
        note: str = "",
    ) -> Row:
        """Measure how often per CPU second `call` runs; `calls` = how many operations one call does."""
        value = calls / seconds_per_call(call, seconds=seconds)
        return self.add(name, value, "1/s", baseline=baseline, goal=goal, note=note)

    def document(self) -> dict[str, Any]:
        """The form of --json."""
        rows = [{**msgspec.to_builtins(row), "met": row.met} for row in self.rows]
        return {"bench": self.title, "machine": machine(), "rows": rows}

    def table(self) -> str:
        """The table for people."""
        width = max(len(row.name) for row in self.rows)
        lines = [self.title, f"  {'':<{width}}  {'value':>14}  {'':<6}  {'ratio':>7}  against / goal"]
        for row in self.rows:
            ratio = f"{row.ratio:.2f}x" if row.ratio is not None else ""
            told = [row.baseline] if row.baseline else []
            if row.goal is not None:
                sign = ">=" if row.better == "higher" else "<="
                told.append(f"goal {sign} {_figure(row.goal)}: {'met' if row.met else 'MISSED'}")
            if row.note:
                told.append(row.note)
            figures = f"{_figure(row.value):>14}  {row.unit:<6}  {ratio:>7}"
            lines.append(f"  {row.name:<{width}}  {figures}  {'; '.join(told)}".rstrip())
        return "\n".join(lines)

    def finish(self, arguments: Sequence[str] | None = None) -> int:
        """Print the table, write --json FILE if asked, and answer the exit status."""
        parser = argparse.ArgumentParser(description=self.title)
        parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
        options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
        print(self.table())
        if options.json is not None:
            options.json.write_text(json.dumps(self.document(), indent=1) + "\n", encoding="utf-8")
        return 0


def seconds_per_call(call: Callable[[], object], *, seconds: float = 0.5, rounds: int = 5) -> float:
    """CPU seconds of one call: the best of `rounds` rounds that together last about `seconds`."""
    call()
    number = 1
    while True:
        took = _timed(call, number)
        if took >= seconds / rounds / 2:
            break
        number *= 2
    number = max(1, int(number * seconds / rounds / took))
    return min(_timed(call, number) for _ in range(rounds)) / number


def _timed(call: Callable[[], object], number: int) -> float:
    began = time.thread_time()
    for _ in range(number):
        call()
    return time.thread_time() - began


def machine() -> dict[str, Any]:
    """Where the figures come from."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": platform.machine(),
        "cpus": os.cpu_count(),
    }


def _figure(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.4f}"
