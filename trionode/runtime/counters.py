"""Named counters: what was accepted, dropped, retried, and why. Shown by `trionode status`."""

from __future__ import annotations

from collections import Counter


class Counters:
    """A flat set of counters keyed by a dotted name, e.g. `gossip.rejected.verify.bad_signature`."""

    def __init__(self) -> None:
        self._values: Counter[str] = Counter()

    def add(self, name: str, amount: int = 1) -> None:
        """Add `amount` to the counter `name`, creating it at zero."""
        self._values[name] += amount

    def __getitem__(self, name: str) -> int:
        return self._values[name]

    def snapshot(self, prefix: str = "") -> dict[str, int]:
        """All counters whose name starts with `prefix`, sorted by name."""
        return {name: self._values[name] for name in sorted(self._values) if name.startswith(prefix)}
