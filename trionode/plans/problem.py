"""A specification, or what belongs to it, that cannot be carried out as it stands."""

from __future__ import annotations

from typing import NoReturn

from trionode.errors import HostError, TrionodeError


class PlanError(TrionodeError):
    """Something an app asks for cannot be done; whoever installs it gives up on it."""

    code = "plan"


class WrongAnswer(PlanError):
    """What an owner keeps elsewhere is not what it has to be: so far it concerns nothing that runs."""

    code = "wrong_answer"


class NotKnownYet(HostError):
    """This node cannot tell yet: it says nothing of the app."""

    code = "not_known_yet"


def refuse(message: str, *, remedy: str = "correct the specification of the app") -> NoReturn:
    """Raise PlanError."""
    raise PlanError(message, remedy=remedy)
