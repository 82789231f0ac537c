"""Writes docs/lifecycle.md from the tables in `trionode.lifecycle`. `--check`: is it up to date?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from trionode.config.tree import Settings
from trionode.lifecycle import phases
from trionode.lifecycle.confirmation import CHANGES
from trionode.lifecycle.orchestrator import HANDLERS, TRANSITIONS
from trionode.lifecycle.phases import Phase
from trionode.lifecycle.readiness import CONDITIONS

ROOT = Path(__file__).resolve().parent
TARGET = ROOT.parent / "docs" / "lifecycle.md"
FRAME = ROOT / "lifecycle_docs.md"
"""The text around the tables, with a mark where each goes."""

SETTINGS = (
    ("state_sync", "min_completions"),
    ("state_sync", "min_peer_uptime_s"),
    ("state_sync", "response_timeout_s"),
    ("state_sync", "serve_interval_s"),
    ("state_sync", "ready_after_blocks"),
    ("state_sync", "ready_after_blocks_enterprise"),
    ("hash_sync", "max_retries"),
    ("hash_sync", "retry_s"),
    ("hash_sync", "peer_grace_s"),
    ("hash_sync", "recheck_blocks"),
    ("peers", "threshold_reached"),
    ("peers", "threshold_below"),
    ("chain", "confirmation_poll_interval_s"),
    ("chain", "confirmation_stale_s"),
    ("chain", "confirmation_expired_s"),
)


def main(arguments: list[str]) -> int:
    """Write or check the file; 0 when it is (now) right."""
    text = render()
    if "--check" in arguments:
        if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
            return 0
        print(f"{TARGET.name} is out of date: run python scripts/gen_lifecycle_docs.py", file=sys.stderr)
        return 1
    TARGET.write_text(text, encoding="utf-8")
    print(f"wrote {TARGET.name}: {len(TRANSITIONS)} transitions, {len(HANDLERS)} events")
    return 0


def render() -> str:
    """The whole page."""
    text = FRAME.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        text = text.replace(f"<!-- {name} -->", table())
    return text


def _transitions() -> str:
    rows = (
        (_names(row.source), row.trigger, row.guard_told or "-", row.target.value, row.told)
        for row in TRANSITIONS
    )
    return _table(("from", "event", "if", "to", "what is done"), rows)


def _conditions() -> str:
    return _table(("condition", "holds when"), ((row.name, row.meaning) for row in CONDITIONS))


def _events() -> str:
    return _table(("event", "what happened"), ((kind.__name__, _about(kind)) for kind in HANDLERS))


def _effects() -> str:
    kinds = phases.Effect.__subclasses__()
    return _table(("effect", "what it means"), ((kind.__name__, _about(kind)) for kind in kinds))


def _diagram() -> str:
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {Phase.INITIALIZING.value}"]
    lines += [
        f"    {source.value} --> {row.target.value}: {row.trigger}"
        for row in TRANSITIONS
        for source in row.source
    ]
    return "\n".join([*lines, "```"])


def _confirmation() -> str:
    rows = ((row.name, f"`{row.event}`", row.leads_to) for row in CHANGES)
    return _table(("change", "told as", "what follows"), rows)


def _settings() -> str:
    defaults = Settings()
    rows = (
        (f"`{section}.{name}`", f"{getattr(getattr(defaults, section), name):g}")
        for section, name in SETTINGS
    )
    return _table(("setting", "default"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _names(found: Iterable[Phase]) -> str:
    return ", ".join(phase.value for phase in found)


def _about(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split())


TABLES: dict[str, Callable[[], str]] = {
    "diagram": _diagram,
    "transitions": _transitions,
    "conditions": _conditions,
    "events": _events,
    "effects": _effects,
    "confirmation": _confirmation,
    "settings": _settings,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
