"""What a database holds and what is wrong with it, without changing anything (`trionode store check`).

Facts: docs/spec/events.md §2, §3, §5 and registry.md §2. The rules here know neither SQLite nor MongoDB; they
get keys and marks of documents, so that a whole network's data fits into little memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from trionode.store.copymark import is_unfinished

Severity = Literal["note", "repair", "problem"]
"""note: no harm. repair: `trionode run` puts it right by itself. problem: a person has to decide."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it should be."""

    severity: Severity
    where: str
    what: str
    then: str
    """What happens to it, or what to do."""
    count: int = 1
    examples: tuple[str, ...] = ()


class Checkup(msgspec.Struct, frozen=True):
    """The whole report."""

    name: str
    holds: Sequence[tuple[str, int]]
    """Documents by collection or table."""
    facts: Mapping[str, str]
    findings: Sequence[Finding]

    @property
    def problems(self) -> int:
        return sum(finding.severity == "problem" for finding in self.findings)


class EventMark(msgspec.Struct, frozen=True, gc=False):
    """As much of an event as the rules need."""

    ip: str
    type: str
    dedup_key: str
    names: tuple[str, ...] = ()


class LogMarks(msgspec.Struct, frozen=True):
    """The event log in short: events, and the keys of the rows that are made from them."""

    events: Sequence[EventMark]
    locations: Sequence[tuple[str, str]]
    """(name, ip)"""
    other_keys: Mapping[str, Sequence[tuple[str, ...]]] = {}
    """Keys of the other collections, which must not repeat either."""


class RegistryMarks(msgspec.Struct, frozen=True):
    """The registry in short."""

    payments: Sequence[tuple[str, bool]]
    """Hash, and whether its message is said to be there."""
    messages: Sequence[str]
    """Hashes of paid messages."""
    current: Sequence[tuple[str, str]]
    """Name and hash of the specifications in force."""


_SHOWN = 3


def copy_findings(mark: str | None) -> Iterator[Finding]:
    """Half a copy: `mark` is the value of the marker that a copy sets."""
    if is_unfinished(mark):
        yield Finding(
            "problem",
            "all",
            "an unfinished copy, on which no node starts",
            "repeat `trionode store copy`, or accept it with `trionode store keep`",
        )


def finding(severity: Severity, where: str, what: str, then: str, found: Iterable[str]) -> Iterator[Finding]:
    """A finding with its first examples, or nothing when nothing was found."""
    examples = sorted(found)
    if examples:
        yield Finding(severity, where, what, then, len(examples), tuple(examples[:_SHOWN]))


def log_findings(marks: LogMarks) -> Iterator[Finding]:
    """Rows that come twice, and orphans between log and locations."""
    for where, keys in (("locations", marks.locations), *marks.other_keys.items()):
        yield from finding(
            "note",
            where,
            "rows of the same app and address",
            "the newest counts, the others go when they expire",
            _repeated(keys),
        )
    yield from finding(
        "repair",
        "events",
        "events with the same address, type and key",
        "all but the newest are deleted",
        _repeated((event.ip, event.type, event.dedup_key) for event in marks.events),
    )
    told, ended, removed = _told(marks.events)
    places = set(marks.locations)
    yield from finding(
        "note",
        "locations",
        "locations without an event that says so",
        "not listed by trionode, which lists what the events say; they go when they expire",
        (f"{name} at {ip}" for name, ip in places if (name, ip) not in told and ip not in ended),
    )
    yield from finding(
        "note",
        "events",
        "running apps without their location row",
        "listed by trionode all the same; the row comes back with the next message of that node",
        (
            f"{name} at {ip}"
            for name, ip in told
            if (name, ip) not in places and ip not in ended and (name, ip) not in removed
        ),
    )


def _told(events: Iterable[EventMark]) -> tuple[set[tuple[str, str]], set[str], set[tuple[str, str]]]:
    """What runs where by the events; addresses with an end or a move; removals."""
    told: set[tuple[str, str]] = set()
    ended: set[str] = set()
    removed: set[tuple[str, str]] = set()
    for event in events:
        if event.type == "apprunning":
            told |= {(name, event.ip) for name in event.names}
        elif event.type == "appremoved":
            removed.add((event.dedup_key.removeprefix("appremoved:"), event.ip))
        else:
            # After a move the rows are at the new address, which `names` holds.
            ended |= {event.ip, *event.names}
    return told, ended, removed


def registry_findings(marks: RegistryMarks) -> Iterator[Finding]:
    """Payments, messages and specifications that do not fit each other."""
    messages = set(marks.messages)
    payments = {hash_ for hash_, _ in marks.payments}
    for where, keys in (
        ("payments", (hash_ for hash_, _ in marks.payments)),
        ("messages", iter(marks.messages)),
    ):
        yield from finding(
            "repair",
            where,
            "documents with the same hash",
            "all but the oldest are deleted",
            _repeated((key,) for key in keys),
        )
    yield from finding(
        "repair",
        "payments",
        "payments said to have their message, which is not there",
        "the node asks its peers for the messages again",
        (hash_ for hash_, has_message in marks.payments if has_message and hash_ not in messages),
    )
    yield from finding(
        "repair",
        "payments",
        "payments said to miss their message, which is there",
        "they are marked as complete",
        (hash_ for hash_, has_message in marks.payments if not has_message and hash_ in messages),
    )
    yield from finding(
        "note",
        "messages",
        "messages without their payment",
        "kept; reading the chain again brings the payments (trionode explorer rescan)",
        messages - payments,
    )
    yield from finding(
        "repair",
        "current",
        "specifications in force whose message is not there",
        "the list is built anew from the messages",
        (name for name, hash_ in marks.current if hash_ not in messages),
    )
    yield from finding(
        "repair",
        "current",
        "names with more than one specification in force",
        "the one of the greatest height stays",
        _repeated((name,) for name, _ in marks.current),
    )


def _repeated(keys: Iterable[tuple[str, ...]]) -> list[str]:
    return [" ".join(key) for key, count in Counter(keys).items() if count > 1]
