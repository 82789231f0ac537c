"""Temporary messages: what gossip says before the chain has paid for it (docs/spec/registry.md §10).

`read_candidate` judges the form of what a peer sent (steps 1 and 2), `judge_temporary` everything that
needs facts of the registry (steps 5 to 8); in between its caller looks those facts up (steps 3 and 4).
Both raise Rejected; nothing here reads a store or a clock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from trionode.registry.compatibility import check_update_compatible
from trionode.registry.constants import MAINNET, OWNER_RACE_BELOW_HEIGHT, Constants
from trionode.registry.formats import format_spec
from trionode.registry.messages import AppMessage, check_hash, read_app_message
from trionode.registry.names import name_conflict
from trionode.registry.predecessor import previous_owner, previous_spec
from trionode.registry.reasons import Reason, Rejected, reject
from trionode.registry.rows import CurrentSpec, HashRow, PermanentRow, TemporaryRow
from trionode.registry.signatures import Spec, check_registration, check_update
from trionode.registry.validation import validate
from trionode.wire.jsjson import JsValue, stringify, truthy

ENTERPRISE_VERSION = 8
QUEUED_NAMES = 200
QUEUED_PER_NAME = 20
"""Ours: the network sets no bound, but one name must not fill the memory of a node."""


class Candidate(msgspec.Struct, frozen=True):
    """A message as received, and its specification in canonical form."""

    message: AppMessage
    spec: Spec
    spec_text: str

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def owner(self) -> str:
        return str(self.spec["owner"])

    @property
    def is_enterprise(self) -> bool:
        return is_enterprise(self.spec)

    def temporary_row(self, received_at_ms: int, expire_at_ms: int) -> TemporaryRow:
        """The row to keep."""
        message = self.message
        return TemporaryRow(
            message.hash,
            message.type,
            message.version,
            self.spec_text,
            self.name,
            self.owner,
            message.timestamp_ms,
            message.signature,
            received_at_ms,
            expire_at_ms,
            message.arcane_sender,
        )


class TemporaryFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the registry knows that bears on one message.

    `payment` is the row of its hash while the chain waits for the message, else None. `permanents` are all
    rows of its name in storage order (updates only). `existing` is the current specification of that name
    in any letter case (registrations only). `secure` nodes open enterprise specifications: `opened` is
    the result, `previous_opened` that of the message it follows, each None when it could not be done.
    """

    daemon_height: int
    payment: HashRow | None = None
    permanents: Sequence[PermanentRow] = ()
    existing: CurrentSpec | None = None
    builtin_names: Collection[str] = ()
    secure: bool = False
    opened: Spec | None = None
    previous_opened: Spec | None = None

    @property
    def height(self) -> int:
        """H: the height the message is judged at."""
        return self.daemon_height if self.payment is None else self.payment.height


def is_enterprise(spec: Spec) -> bool:
    """Whether compose and contacts travel encrypted inside the specification."""
    return bool(spec["version"] >= ENTERPRISE_VERSION and truthy(spec.get("enterprise")))


def read_candidate(data: JsValue) -> Candidate:
    """The message a peer sent, formatted. Raises Rejected (shape, or a format without canonical form)."""
    message = read_app_message(data)
    spec = format_spec(message.spec)
    return Candidate(message, spec, stringify(spec))


def followed_by(candidate: Candidate, facts: TemporaryFacts) -> PermanentRow | None:
    """The message that this update follows; None for registrations, and when there is none yet."""
    if candidate.message.is_registration:
        return None
    return previous_spec(facts.permanents, candidate.message.timestamp_ms)


def judge_temporary(candidate: Candidate, facts: TemporaryFacts, constants: Constants = MAINNET) -> bool:
    """Whether to keep the message; False: an update whose predecessor is not known yet, to be queued.

    Raises Rejected with the first rule it breaks.
    """
    message = candidate.message
    previous: Spec | None = None
    row: PermanentRow | None = None
    if not message.is_registration:
        row = followed_by(candidate, facts)
        if row is None:
            return False
        previous = facts.previous_opened or row.spec()
    _check_content(candidate, facts, previous, constants)
    check_hash(message)
    if row is None:
        check_registration(
            message.type,
            message.version,
            candidate.spec,
            message.timestamp_ms,
            message.signature,
            spec_text=candidate.spec_text,
        )
    else:
        check_update_signature(candidate, facts, row.owner, previous, constants)
    return True


def _check_content(
    candidate: Candidate, facts: TemporaryFacts, previous: Spec | None, constants: Constants
) -> None:
    """Step 6: what the specification says, against the rules and against what it would replace."""
    spec = candidate.spec
    if candidate.is_enterprise:
        if not facts.secure:
            return  # nobody but a secure node can look inside
        if facts.opened is None:
            reject(Reason.CANNOT_DECRYPT, "enterprise")
        spec = facts.opened
    validate(spec, facts.height)
    if previous is not None:
        check_update_compatible(spec, previous)
        return
    name_conflict(
        candidate.name,
        facts.existing,
        hash=candidate.message.hash,
        payment=facts.payment,
        builtin_names=facts.builtin_names,
        constants=constants,
    )


def check_update_signature(
    candidate: Candidate, facts: TemporaryFacts, owner: str, previous: Spec | None, constants: Constants
) -> None:
    """Raises Rejected unless the update is signed by who may sign it.

    Below `OWNER_RACE_BELOW_HEIGHT` a paid one may also be signed by the owner before: two updates crossed.
    """
    try:
        _check_signed_by(candidate, facts, owner, previous, constants)
    except Rejected:
        if facts.payment is None or facts.payment.height >= OWNER_RACE_BELOW_HEIGHT:
            raise
        before = previous_owner(facts.permanents, owner)
        if before is None:
            raise
        _check_signed_by(candidate, facts, before, previous, constants)


def _check_signed_by(
    candidate: Candidate, facts: TemporaryFacts, owner: str, previous: Spec | None, constants: Constants
) -> None:
    message, opened = candidate.message, facts.opened

    def decrypt(_: Spec) -> Spec:
        if opened is None:
            reject(Reason.CANNOT_DECRYPT, "enterprise")
        return opened

    check_update(
        message.type,
        message.version,
        candidate.spec,
        message.timestamp_ms,
        message.signature,
        previous_owner=owner,
        height=facts.height,
        previous_spec=previous,
        spec_text=candidate.spec_text,
        constants=constants,
        system_secure=facts.secure,
        decrypt=decrypt,
    )


class _Queued(msgspec.Struct, frozen=True):
    height: int
    queued_at_ms: int
    data: dict[str, Any]


class PendingUpdates:
    """Updates whose registration is not known yet, by name, for `lifetime_s`; the oldest names go first."""

    def __init__(self, lifetime_s: float, *, names: int = QUEUED_NAMES) -> None:
        self._most_names = names
        self._lifetime_ms = round(lifetime_s * 1000)
        self._queues: OrderedDict[str, dict[str, _Queued]] = OrderedDict()

    def __len__(self) -> int:
        """How many updates wait."""
        return sum(map(len, self._queues.values()))

    def put(self, name: str, hash_: str, data: dict[str, Any], height: int, now_ms: int) -> None:
        """Queue an update judged at `height`; the same one again does nothing."""
        self._expire(now_ms)
        queue = self._queues.setdefault(name, {})
        if hash_ in queue or len(queue) >= QUEUED_PER_NAME:
            return
        queue[hash_] = _Queued(height, now_ms, data)
        while len(self._queues) > self._most_names:
            self._queues.popitem(last=False)

    def take(self, name: str, now_ms: int) -> list[dict[str, Any]]:
        """Take out the updates of a name, by height, of one height as they came."""
        self._expire(now_ms)
        queue = self._queues.pop(name, {})
        return [queued.data for queued in sorted(queue.values(), key=lambda queued: queued.height)]

    def drop(self, name: str) -> None:
        self._queues.pop(name, None)

    def _expire(self, now_ms: int) -> None:
        for name in list(self._queues):
            queue = self._queues[name]
            for hash_ in [
                h for h, queued in queue.items() if queued.queued_at_ms + self._lifetime_ms <= now_ms
            ]:
                del queue[hash_]
            if not queue:
                del self._queues[name]
