"""Which apps run too few times, by registry and location index (docs/spec/lifecycle.md §11, step 3).

Specifications are read once per version and kept as the few members the choice needs; a round only walks
over them and asks the index for a count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from trionode.appstate.source import LocationView
from trionode.plans.candidates import Candidate, SpecRow, select_candidates
from trionode.plans.parts import is_encrypted
from trionode.registry.constants import MAINNET, Constants
from trionode.registry.rows import CurrentSpec
from trionode.runtime.appturns import AppTurns
from trionode.runtime.counters import Counters
from trionode.wire.address import with_port
from trionode.wire.jsjson import is_number

USUAL_INSTANCES = 3


class CurrentApps(Protocol):
    """The specifications in force (`store.appregistry_current.CurrentSpecs`)."""

    @property
    def by_name(self) -> Mapping[str, CurrentSpec]: ...


class Locations(Protocol):
    """Who runs what (`store.eventlog.EventLog`)."""

    def locations(self, name: str | None = None, ip: str | None = None) -> Sequence[LocationView]: ...


class CandidateList:
    """Lists candidates; remembers what it has read."""

    def __init__(
        self,
        current: CurrentApps,
        log: Locations,
        constants: Constants = MAINNET,
        counters: Counters | None = None,
    ) -> None:
        self._turns = AppTurns("candidates", counters if counters is not None else Counters())
        self._current = current
        self._log = log
        self._constants = constants
        self._read: dict[str, SpecRow] = {}

    def select(self, daemon_height: int) -> tuple[Candidate, ...]:
        """The apps with fewer locations than wanted that do not end soon, by name."""
        rows = self._rows()
        counts = {row.candidate.name: self._count(row.candidate.name) for row in rows}
        return select_candidates(rows, counts, daemon_height, self._constants)

    def _count(self, app: str) -> int:
        """On how many nodes it runs; one listed with and without the default port is one."""
        return len({with_port(row.ip) for row in self._log.locations(app)})

    def _rows(self) -> list[SpecRow]:
        current, known = self._current.by_name, self._read
        if len(known) > 2 * len(current) + 100:
            known.clear()
        rows: list[SpecRow] = []
        for name, stored in current.items():
            row = known.get(name)
            if row is None or row.candidate.hash != stored.hash:
                row = None
                with self._turns.of(name):
                    row = known[name] = spec_row(stored)
            if row is not None:
                rows.append(row)
        return rows


def spec_row(stored: CurrentSpec) -> SpecRow:
    """What the choice needs of a specification."""
    spec = stored.spec()
    candidate = Candidate(
        name=stored.name,
        hash=stored.hash,
        required=_whole(spec.get("instances")) or USUAL_INSTANCES,
        version=_whole(spec.get("version")) or 0,
        owner=str(spec.get("owner", "")),
        nodes=_texts(spec.get("nodes")),
        geolocation=_texts(spec.get("geolocation")),
        encrypted=is_encrypted(spec),
    )
    return SpecRow(candidate, stored.height, _whole(spec.get("expire")))


def _whole(value: Any) -> int | None:
    """None for what is no number; a number too large for one is none either."""
    return int(value) if is_number(value) and math.isfinite(value) else None


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()
