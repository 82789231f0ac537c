"""Exit codes of `trionode` (docs/exit-codes.md)."""

from __future__ import annotations

from trionode.errors import TrionodeError

OK = 0
FAILURE = 1
USAGE = 2
CONFIG = 3
CANNOT_START = 4
UNREACHABLE = 5
CRASH_LOOP = 6
INTERRUPTED = 130

_BY_CODE = {
    "config": CONFIG,
    "startup": CANNOT_START,
    "unreachable": UNREACHABLE,
    "crash_loop": CRASH_LOOP,
    "cut_short": INTERRUPTED,
}


def exit_code_of(error: TrionodeError) -> int:
    """The exit code that an error's stable `code` stands for."""
    return _BY_CODE.get(error.code, FAILURE)
