"""How a commit is carried out: what it is built from, what a lost answer means for it. All of it blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

from bson import ObjectId
from bson.errors import BSONError
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure, PyMongoError

from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.store.mongo.failures import is_refusal
from trionode.store.mongo.journal import Databases, Journal, apply
from trionode.store.mongo.presence import Presence
from trionode.store.mongo.replay import Forward, finish
from trionode.store.mongo.writes import Writes

_T = TypeVar("_T")

Session: TypeAlias = ClientSession | None
"""To be handed to every driver call inside `Build`; None on a server without transactions."""

Build: TypeAlias = Callable[[Session], tuple[Sequence[Writes], _T]]
"""Runs in the thread of the commit: reads what it needs, says what to write and what to give back. It may
run again when the commit has to be repeated."""

_COMMIT_TRIES = 3

log = get_logger("store.mongo")


class Journalled:
    """What is known of the journals of a server without transactions, from one commit to the next."""

    def __init__(self, databases: Databases) -> None:
        self.databases = databases
        self.presence = Presence()
        self.unfinished: set[str] = set()
        """Stores whose journal may hold a commit that is not carried out."""
        self.lingering: set[str] = set()
        """Stores whose journal may still hold a commit that is: nobody waited for its end.

        Carrying it out again is harmless until something else is written, so whatever comes next replaces
        it (another journal) or waits until it is gone (`settle`).
        """

    def recover(self, scope: str, counters: Counters) -> None:
        """Finish what was cut short. Raises PyMongoError."""
        finish(self.databases, scope, counters)
        self.unfinished.discard(scope)
        self.lingering.discard(scope)

    def settle(self, scope: str) -> None:
        """See to it that no commit lingers. Raises PyMongoError."""
        if scope in self.lingering:
            Journal(self.databases, scope).clear()
            self.lingering.discard(scope)


class JournalledCommit(Generic[_T]):
    """One commit without transactions; `run` goes on where the lost connection left it."""

    def __init__(self, journalled: Journalled, scope: str, build: Build[_T]) -> None:
        self._journalled = journalled
        self._scope = scope
        self._build = build
        self._built: tuple[Sequence[Writes], _T] | None = None
        self._commit = ObjectId()
        self._is_kept = False
        self._was_begun = False

    def run(self) -> _T:
        databases = self._journalled.databases
        journal = Journal(databases, self._scope)
        repeated = self._built is not None
        if self._built is not None and not self._is_kept and not _is_atomic(self._built[0]):
            # The answer to writing the journal was lost: did it get there?
            kept = journal.kept()
            self._is_kept = kept is not None and kept.commit == self._commit
            if not self._is_kept:
                journal.clear()
                self._journalled.lingering.discard(self._scope)
                self._built = None
        if self._built is None:
            self._built = self._build(None)
        plan, result = self._built
        if _is_atomic(plan):
            self._journalled.settle(self._scope)
            apply(databases, plan, repeated=repeated)
            return result
        self._carry_out(journal, plan)
        return result

    def _carry_out(self, journal: Journal, plan: Sequence[Writes]) -> None:
        journalled = self._journalled
        journalled.unfinished.add(self._scope)
        if not self._is_kept:
            journal.keep(self._commit, plan, journalled.presence.since)
            self._is_kept = True
            journalled.lingering.discard(self._scope)
        forward = Forward(journalled.databases)
        try:
            forward.run(plan)
        except (OperationFailure, BSONError) as error:
            is_final = isinstance(error, BSONError) or is_refusal(error)
            if is_final and not forward.has_written and not self._was_begun:
                # Nothing of it is there: it never was.
                journal.clear()
                journalled.unfinished.discard(self._scope)
            raise
        finally:
            self._was_begun = True
        journalled.lingering.add(self._scope)
        journalled.unfinished.discard(self._scope)
        try:
            journal.clear_unanswered(self._commit)
        except PyMongoError as error:
            # The commit is done; its journal goes with the next one.
            log.debug("the journal could not be emptied", scope=self._scope, problem=type(error).__name__)


def commit_transaction(session: ClientSession) -> None:
    """Commit; when the answer is lost ask again: the same commit twice is one commit."""
    for left in reversed(range(_COMMIT_TRIES)):
        try:
            session.commit_transaction()
        except PyMongoError as error:
            if not (left and error.has_error_label("UnknownTransactionCommitResult")):
                raise
        else:
            return


def _is_atomic(plan: Sequence[Writes]) -> bool:
    """Whether the server does it in one step anyway."""
    writes = [write for part in plan for write in part.writes]
    return not writes or (len(writes) == 1 and not getattr(writes[0], "many", False))
