"""What ended a service, and in how many words it is told."""

from __future__ import annotations

from trionode.errors import StartupError, TrionodeError


class ServiceEnded(TrionodeError):
    """A service returned from `run`, which only cancellation may end."""

    code = "service_ended"


def is_passing(error: BaseException) -> bool:
    """Whether all of it passes by itself (docs/storage.md, "When the disk is full")."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_passing(inner) for inner in error.exceptions)
    return isinstance(error, TrionodeError) and error.is_passing


def bare(group: ExceptionGroup[Exception]) -> Exception:
    """The only exception inside nested groups of one, else the group itself."""
    error: Exception = group
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def describe(error: BaseException) -> str:
    """One line for an exception; groups list their leaves."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(describe(inner) for inner in error.exceptions)
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def start_error(crash: Exception, service: str, remedy: str) -> Exception:
    """What the caller of `Supervisor.run` sees of a failed first start: errors made for people as they are,
    others wrapped."""
    if isinstance(crash, TrionodeError) and not isinstance(crash, ServiceEnded):
        return crash
    error = StartupError(
        f"the {service} service could not start: {describe(crash)}",
        remedy=remedy or "run again with -v and read the traceback in the log",
    )
    error.__cause__ = crash
    return error
