"""One app's turn: what nobody foresaw in it costs that app its turn, and neither the service nor other apps.

Whatever a service does app by app goes through `AppTurns.of`. Errors that are foreseen are handled inside it;
what comes out is a bug, met by something a stranger wrote. It is logged with the app and the place it came
from, counted as `unforeseen.SERVICE`, and the service goes on. Cancellation passes through untouched.
"""

from __future__ import annotations

import traceback
from types import TracebackType

from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger

FRAMES = 4
"""Places told, innermost last."""

log = get_logger("turns")


class AppTurns:
    """The turns of one service."""

    def __init__(self, service: str, counters: Counters) -> None:
        self._service = service
        self._counters = counters

    def of(self, app: str) -> AppTurn:
        """The turn of an app ends with the block, whatever goes wrong in it."""
        return AppTurn(self._service, app, self._counters)


class AppTurn:
    """One turn. `app` may be found out on the way. `problem`: a sentence, empty when nothing unforeseen
    happened."""

    def __init__(self, service: str, app: str, counters: Counters) -> None:
        self._service = service
        self.app = app
        self._counters = counters
        self.problem = ""

    @property
    def failed(self) -> bool:
        return bool(self.problem)

    def __enter__(self) -> AppTurn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        # Cancelled and what ends a process are no Exception, alone or in a group
        if not isinstance(error, Exception):
            return False
        name = type(_innermost(error)).__name__
        self.problem = f"an unforeseen error ({name})"
        self._counters.add(f"unforeseen.{self._service}")
        # its text is not told: it may quote what the app keeps secret
        log.error(
            "an app met an unforeseen error, please report it",
            service=self._service,
            app=self.app,
            kind=name,
            where=_where(error),
        )
        return True


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(_innermost(error).__traceback__)[-FRAMES:]
    return " > ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames)


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
