"""How a commit is carried out: what it is built from, what a lost answer means for it. All of it blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

from pymongo.client_session import ClientSession
from pymongo.errors import PyMongoError

from trionode.store.mongo.journal import Databases, Journal, apply
from trionode.store.mongo.writes import Writes

_T = TypeVar("_T")

Session: TypeAlias = ClientSession | None
"""To be handed to every driver call inside `Build`; None on a server without transactions."""

Build: TypeAlias = Callable[[Session], tuple[Sequence[Writes], _T]]
"""Runs in the thread of the commit: reads what it needs, says what to write and what to give back. It may
run again when the commit has to be repeated."""

_COMMIT_TRIES = 3


class JournalledCommit(Generic[_T]):
    """One commit without transactions; `run` goes on where the lost connection left it."""

    def __init__(
        self,
        databases: Databases,
        scope: str,
        build: Build[_T],
        unfinished: set[str],
    ) -> None:
        self._databases = databases
        self._scope = scope
        self._build = build
        self._unfinished = unfinished
        self._built: tuple[Sequence[Writes], _T] | None = None
        self._is_kept = False

    def run(self) -> _T:
        journal = Journal(self._databases, self._scope)
        repeated = self._built is not None
        if self._built is not None and not self._is_kept and not _is_atomic(self._built[0]):
            # The answer to writing the journal was lost: did it get there?
            self._is_kept = bool(journal.kept())
            if not self._is_kept:
                journal.clear()
                self._built = None
        if self._built is None:
            self._built = self._build(None)
        plan, result = self._built
        if _is_atomic(plan):
            apply(self._databases, plan, repeated=repeated)
            return result
        self._unfinished.add(self._scope)
        if not self._is_kept:
            journal.keep(plan)
            self._is_kept = True
        apply(self._databases, plan, repeated=repeated, forward=True)
        journal.clear()
        self._unfinished.discard(self._scope)
        return result


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
