"""What every bench shares: rows with a goal and a baseline measured in the same run, table and JSON.

Use:  bench = Bench("wire"); bench.add("frame decode", per_s, "1/s", baseline=..., goal=...)
      bench.finish(arguments)
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec


class Row(msgspec.Struct, frozen=True):
    """One measured figure. `goal` is a bound in `unit`; `more_is_better` tells its direction."""

    name: str
    value: float
    unit: str
    baseline: float | None = None
    baseline_name: str = ""
    goal: float | None = None
    more_is_better: bool = True

    @property
    def ratio(self) -> float | None:
        """value / baseline, None without a baseline."""
        return self.value / self.baseline if self.baseline else None

    @property
    def reached(self) -> bool | None:
        """Whether the goal is met, None without one."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.more_is_better else self.value <= self.goal


class Bench:
    """Collects rows and prints them at the end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: list[Row] = []

    def add(self, name: str, value: float, unit: str, **more: Any) -> None:
        """Add one figure; see Row for the optional members."""
        self.rows.append(Row(name, value, unit, **more))
        print(f"  {name}: {_figure(value)} {unit}", file=sys.stderr)

    def finish(self, json_path: str | None) -> None:
        """Print the table, and write JSON when a path is given ("-" is standard output)."""
        report = {
            "bench": self.name,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "rows": [
                {**msgspec.structs.asdict(row), "ratio": row.ratio, "reached": row.reached}
                for row in self.rows
            ],
        }
        if json_path == "-":
            print(json.dumps(report, indent=1))
            return
        if json_path:
            Path(json_path).write_text(json.dumps(report, indent=1) + "\n", "utf-8")
        print(f"\n{self.name} (Python {platform.python_version()})")
        width = max(len(row.name) for row in self.rows)
        for row in self.rows:
            line = f"{row.name:<{width}}  {_figure(row.value):>12} {row.unit:<8}"
            if row.ratio is not None:
                line += f" {row.ratio:6.2f} x {row.baseline_name} ({_figure(row.baseline or 0)})"
            if row.goal is not None:
                sign = ">=" if row.more_is_better else "<="
                line += f"  goal {sign} {_figure(row.goal)}: {'reached' if row.reached else 'MISSED'}"
            print(line)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the option every bench has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", metavar="FILE", help="also write the figures as JSON; - prints only JSON")
    return parser


def rate(work: Callable[[], object], *, count: int = 1, seconds: float = 0.5, rounds: int = 3) -> float:
    """How often per second `work` does its `count` things: the median of `rounds` timed rounds."""
    work()
    rates = []
    for _ in range(rounds):
        done, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            work()
            done += count
        rates.append(done / elapsed)
    return sorted(rates)[len(rates) // 2]


def _figure(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
