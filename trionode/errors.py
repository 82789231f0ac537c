"""The error tree: every error a person can meet says what was wrong and what to do.

`code` is stable and meant for programs; `remedy` is one sentence for people.
"""

from __future__ import annotations

from typing import ClassVar


class TrionodeError(Exception):
    """Base of all errors trionode raises on purpose."""

    code = "error"
    is_passing: ClassVar[bool] = False
    """True for what says nothing of the program: the same may succeed later, and nobody has to come."""

    def __init__(self, message: str, *, remedy: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        if code is not None:
            self.code = code

    def one_line(self) -> str:
        """Message and remedy as the single line the CLI prints."""
        return f"{self.message} - {self.remedy}" if self.remedy else self.message


class ConfigError(TrionodeError):
    """A setting is unknown, ill-typed or out of range."""

    code = "config"


class WireError(TrionodeError):
    """Bytes or text from outside do not have the form docs/spec/wire.md requires."""

    code = "wire"


class PeerError(TrionodeError):
    """A peer link could not be opened or broke."""

    code = "peer"


class ChainError(TrionodeError):
    """The chain daemon or the benchmark daemon did not give a usable answer.

    `rpc_code` is the daemon's own error code (e.g. -28 while warming up) or a transport name
    such as "ECONNREFUSED" (daemon-rpc.md §2).
    """

    code = "chain"

    def __init__(self, message: str, *, remedy: str = "", rpc_code: int | str = 500) -> None:
        super().__init__(message, remedy=remedy)
        self.rpc_code = rpc_code


class HostError(TrionodeError):
    """The container engine could not do what it was asked for."""

    code = "host"


class StoreError(TrionodeError):
    """The store could not be opened, read or written."""

    code = "store"


class StoreAway(StoreError):
    """The store cannot be reached or written just now: no space, no connection, locked by another program.

    What it holds is safe and nothing of the call was stored; the same call may succeed later.
    """

    code = "store_away"
    is_passing = True


class StartupError(TrionodeError):
    """The node cannot start as configured (busy port, wrong key, unwritable folder...)."""

    code = "startup"
