"""The current specifications in memory, by name (docs/spec/registry.md §2, §8).

They are a mirror of what is stored: whoever changes them stores the change first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from trionode.registry.constants import MAINNET, Constants
from trionode.registry.housekeeping import Life
from trionode.registry.names import find_named
from trionode.registry.rows import CurrentSpec


class CurrentSpecs:
    """Specifications in force by exact name, and when each of them ends."""

    def __init__(self, constants: Constants = MAINNET) -> None:
        self._constants = constants
        self._by_name: dict[str, CurrentSpec] = {}
        self._by_lower: dict[str, CurrentSpec] = {}
        self._lives: dict[str, Life] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[CurrentSpec]:
        """All of them, by name."""
        return iter([self._by_name[name] for name in sorted(self._by_name)])

    @property
    def by_name(self) -> Mapping[str, CurrentSpec]:
        return self._by_name

    def get(self, name: str) -> CurrentSpec | None:
        """The specification of exactly that name."""
        return self._by_name.get(name)

    def find(self, name: str) -> CurrentSpec | None:
        """The specification of that name in any letter case."""
        return find_named(name, self._by_lower)

    def lives(self) -> Iterable[Life]:
        """From when to when each app lives."""
        return self._lives.values()

    def life(self, name: str) -> Life | None:
        return self._lives.get(name)

    def put(self, row: CurrentSpec) -> None:
        self._by_name[row.name] = row
        self._by_lower[row.name.lower()] = row
        self._lives[row.name] = Life.of(row, self._constants)

    def delete(self, name: str) -> None:
        """Forget the specification of exactly that name, if there is one."""
        if self._by_name.pop(name, None) is None:
            return
        del self._lives[name]
        lower = name.lower()
        found = self._by_lower.get(lower)
        if found is not None and found.name == name:
            del self._by_lower[lower]
            # another app may have the same name in other letters
            for row in self._by_name.values():
                if row.name.lower() == lower:
                    self._by_lower[lower] = row

    def replace(self, rows: Iterable[CurrentSpec]) -> None:
        """Forget all and take these."""
        self._by_name.clear()
        self._by_lower.clear()
        self._lives.clear()
        for row in rows:
            self.put(row)
