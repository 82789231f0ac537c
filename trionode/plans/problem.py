"""A specification, or what belongs to it, that cannot be carried out as it stands."""

from __future__ import annotations

from typing import NoReturn

from trionode.errors import TrionodeError


class PlanError(TrionodeError):
    """Something an app asks for cannot be done; whoever installs it gives up on it."""

    code = "plan"


def refuse(message: str, *, remedy: str = "correct the specification of the app") -> NoReturn:
    """Raise PlanError."""
    raise PlanError(message, remedy=remedy)
