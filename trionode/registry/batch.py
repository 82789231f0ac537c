"""Many paid messages at once: what of a peer's rows is right (docs/spec/registry.md §12, batch processor).

A message is judged against earlier messages of the same name only, so a chunk falls into groups by name
that can be judged anywhere, in any order: `judge_group`. Where and when a message was paid, and how much,
is never taken from the peer but from our own rows of the chain.

Within a group messages are judged by height, then by hash: the order in which they arrived, and how they
were cut into chunks, makes no difference. Price, name conflict and compatibility are not asked here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from trionode.registry.coercion import UNDEFINED, text
from trionode.registry.constants import MAINNET, OWNER_RACE_BELOW_HEIGHT, Constants
from trionode.registry.messages import LEGACY_SPEC_KEY, REGISTER_TYPES, SPEC_KEY, check_hash
from trionode.registry.reasons import Reason, Rejected, Rejection, reject
from trionode.registry.rows import HashRow, PermanentRow
from trionode.registry.signatures import Spec, check_registration, check_update
from trionode.registry.temporary import Candidate, read_candidate
from trionode.registry.validation import validate
from trionode.wire.jsjson import JsValue

CHUNK_MESSAGES = 2_000

NO_PREDECESSOR = "no earlier message of this app is known"

Verdict = Literal["accepted", "rejected", "known", "not_on_chain", "no_value", "unread"]
"""`known`: stored already. `not_on_chain`: we have no payment for it. `no_value`: the peer itself says that
it does not know the amount. `unread`: no message at all."""


class BatchRow(msgspec.Struct, frozen=True, gc=False):
    """A message as the peer gave it, with our own facts of its payment."""

    data: dict[str, Any]
    hash: str
    txid: str
    height: int
    value_sat: int
    opened: Spec | None = None


class NameGroup(msgspec.Struct, frozen=True, gc=False):
    """All messages of one name in a chunk, ascending by height and hash, and what was there before.

    `history` are the stored messages of that name by height; `owner_before` is whom it belonged to before
    the last change of owner that this run has seen.
    """

    name: str
    rows: tuple[BatchRow, ...]
    history: tuple[PermanentRow, ...] = ()
    owner_before: str | None = None


class BatchRules(msgspec.Struct, frozen=True):
    """What holds for a whole run. `daemon_height` is the H of §5."""

    daemon_height: int
    secure: bool = False
    constants: Constants = MAINNET


class Judged(msgspec.Struct, frozen=True, gc=False):
    """The verdict on one message of a group: a row to store, or why not."""

    hash: str
    row: PermanentRow | None = None
    rejection: Rejection | None = None
    owner_before: str | None = None
    """Whom the app belonged to before this message changed that."""

    @property
    def verdict(self) -> Verdict:
        return "rejected" if self.row is None else "accepted"


def row_name(data: Mapping[str, Any]) -> str:
    """The name a raw message is filed under; empty when it has none."""
    spec = data.get(SPEC_KEY) or data.get(LEGACY_SPEC_KEY)
    name = spec.get("name", UNDEFINED) if isinstance(spec, dict) else UNDEFINED
    found = name if isinstance(name, str) else text(name)
    return found if isinstance(found, str) else ""


def arrange(
    served: Iterable[JsValue], payments: Mapping[str, HashRow], known: set[str]
) -> tuple[list[BatchRow], dict[str, Verdict]]:
    """Sort out what need not be judged, and put the rest in the order of the chain.

    The second value tells the verdicts of the others by hash. Of equal hashes the first counts.
    """
    rows: dict[str, BatchRow] = {}
    others: dict[str, Verdict] = {}
    for data in served:
        hash_ = served_hash(data)
        if hash_ is None:
            others.setdefault("", "unread")
        elif hash_ in rows:
            continue
        elif "valueSat" in data and data["valueSat"] is None:
            others.setdefault(hash_, "no_value")
        elif hash_ in known:
            others[hash_] = "known"
        elif (payment := payments.get(hash_)) is None:
            others.setdefault(hash_, "not_on_chain")
        else:
            rows[hash_] = BatchRow(data, hash_, payment.txid, payment.height, payment.value_sat)
            others.pop(hash_, None)
    return sorted(rows.values(), key=lambda row: (row.height, row.hash)), others


def served_hash(data: JsValue) -> str | None:
    """The hash a served row is about; None when it is no message at all."""
    hash_ = data.get("hash") if isinstance(data, dict) else None
    return hash_ if isinstance(hash_, str) else None


def grouped(
    rows: Sequence[BatchRow],
    history: Mapping[str, Sequence[PermanentRow]],
    owners_before: Mapping[str, str],
) -> list[NameGroup]:
    """The rows of a chunk by name, in the order of the first of each."""
    by_name: dict[str, list[BatchRow]] = {}
    for row in rows:
        by_name.setdefault(row_name(row.data), []).append(row)
    return [
        NameGroup(name, tuple(found), tuple(history.get(name, ())), owners_before.get(name))
        for name, found in by_name.items()
    ]


def update_names(rows: Iterable[BatchRow]) -> set[str]:
    """Names of which predecessors are needed."""
    return {row_name(row.data) for row in rows if row.data.get("type") not in REGISTER_TYPES}


def judge_group(group: NameGroup, rules: BatchRules) -> Iterator[Judged]:
    """Judge the messages of a name, each against those before it in the chain."""
    history = sorted(group.history, key=lambda row: row.height)
    owner_before = group.owner_before
    for row in group.rows:
        try:
            permanent, changed = _judge(row, history, owner_before, rules)
        except Rejected as error:
            yield Judged(row.hash, rejection=error.rejection)
            continue
        if changed is not None:
            owner_before = changed
        # rows of equal height never see each other, so their order among themselves does not matter
        history.insert(bisect_left(history, row.height + 1, key=lambda known: known.height), permanent)
        yield Judged(row.hash, permanent, owner_before=changed)


def judge_groups(groups: Iterable[NameGroup], rules: BatchRules) -> list[list[Judged]]:
    """Judge several groups at once (in a worker)."""
    return [list(judge_group(group, rules)) for group in groups]


def _judge(
    row: BatchRow, history: Sequence[PermanentRow], owner_before: str | None, rules: BatchRules
) -> tuple[PermanentRow, str | None]:
    candidate = read_candidate(row.data)
    message = candidate.message
    check_hash(message)
    _check_content(candidate, row, rules)
    changed: str | None = None
    if message.is_registration:
        check_registration(
            message.type,
            message.version,
            candidate.spec,
            message.timestamp_ms,
            message.signature,
            spec_text=candidate.spec_text,
        )
    else:
        # strictly lower: an update in the block of its own registration follows nothing
        place = bisect_left(history, row.height, key=lambda known: known.height)
        if place == 0:
            reject(Reason.SIGNATURE_NOT_OWNER, "signature", message.signature, None, NO_PREDECESSOR)
        previous = history[place - 1]
        _check_signed(candidate, row, previous, owner_before, rules)
        if candidate.owner != previous.owner:
            changed = previous.owner
    permanent = PermanentRow(
        message.hash,
        message.type,
        message.version,
        candidate.spec_text,
        candidate.name,
        candidate.owner,
        message.timestamp_ms,
        message.signature,
        row.txid,
        row.height,
        row.value_sat,
    )
    return permanent, changed


def _check_content(candidate: Candidate, row: BatchRow, rules: BatchRules) -> None:
    """Validate at the height of the payment; what is encrypted was looked at by those who could."""
    if not candidate.is_enterprise:
        validate(candidate.spec, row.height)


def _check_signed(
    candidate: Candidate,
    row: BatchRow,
    previous: PermanentRow,
    owner_before: str | None,
    rules: BatchRules,
) -> None:
    message = candidate.message
    previous_spec = previous.spec()
    opened = row.opened

    def check(owner: str) -> None:
        check_update(
            message.type,
            message.version,
            candidate.spec,
            message.timestamp_ms,
            message.signature,
            previous_owner=owner,
            height=rules.daemon_height,
            previous_spec=previous_spec,
            spec_text=candidate.spec_text,
            constants=rules.constants,
            system_secure=rules.secure,
            decrypt=None if opened is None else lambda _: opened,
        )

    try:
        check(previous.owner)
    except Rejected:
        if owner_before is None or row.height >= OWNER_RACE_BELOW_HEIGHT:
            raise
        check(owner_before)
