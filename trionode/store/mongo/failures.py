"""Errors of the driver as errors a person can act on, and which of them are worth another try."""

from __future__ import annotations

from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
)

from trionode.errors import StoreAway, StoreError

# The server steps down, shuts down or was too slow: the same call may succeed a moment later.
_PASSING = {6, 7, 24, 50, 64, 89, 91, 112, 189, 202, 246, 251, 262, 9001, 10107, 11600, 11602, 13435, 13436}
_PASSING_LABELS = ("TransientTransactionError", "UnknownTransactionCommitResult", "RetryableWriteError")
# The server as a whole says no: no right, no space. Another document would fare no better; but somebody may
# make room, or give the right back.
_STANDING = {13, 18, 8000, 14031}
_REMEDIES = {
    13: "give the user of store.url the role readWrite on the databases of this node",
    18: "check user, password and authSource in store.url",
    8000: "check user, password and authSource in store.url",
    100: "start the members of the replica set that are missing: a majority has to acknowledge",
    14031: "free some space on the disk of the database: the node goes on by itself",
    11000: "see `trionode store check`: two documents share a key that must be unique",
    85: "see `trionode store check`: an index has other options than this program needs",
    86: "see `trionode store check`: an index has other options than this program needs",
}
_UNREACHABLE = "check that the database runs and that store.url names it"


def is_passing(error: PyMongoError) -> bool:
    """Whether the same call may succeed a moment later."""
    if isinstance(error, ConnectionFailure) or error.timeout:
        return True
    if any(error.has_error_label(label) for label in _PASSING_LABELS):
        return True
    return any(code in _PASSING for code in codes(error))


def is_refusal(error: PyMongoError) -> bool:
    """Whether the server took offence at what was to be written, and will again."""
    if not isinstance(error, OperationFailure) or is_passing(error):
        return False
    if isinstance(error, BulkWriteError) and not (error.details or {}).get("writeErrors"):
        return False
    return not codes(error) & _STANDING


def is_lost(error: PyMongoError) -> bool:
    """Whether the server could not be reached, or not in time."""
    return isinstance(error, ConnectionFailure) or error.timeout


def codes(error: PyMongoError) -> set[int]:
    """The server's error codes, of every write of a batch."""
    found: set[int] = set()
    if isinstance(error, OperationFailure) and error.code is not None:
        found.add(error.code)
    if isinstance(error, BulkWriteError):
        details = error.details or {}
        for problem in (*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())):
            if "code" in problem:
                found.add(problem["code"])
    return found


def is_away(error: PyMongoError, *, opening: bool = False) -> bool:
    """Whether the same call may succeed later. `opening`: a password that never worked is told at once."""
    return is_passing(error) or (not opening and bool(codes(error) & _STANDING))


def store_error(label: str, doing: str, error: PyMongoError, *, opening: bool = False) -> StoreError:
    """The error of the driver as one that names the server (never a password) and the remedy."""
    numbers = codes(error)
    remedy = next((text for code, text in _REMEDIES.items() if code in numbers), "")
    if not remedy and (is_lost(error) or isinstance(error, ConfigurationError)):
        remedy = _UNREACHABLE
    code = f" (code {', '.join(map(str, sorted(numbers - {65})))})" if numbers - {65} else ""
    made = StoreAway if is_away(error, opening=opening) else StoreError
    return made(f"cannot {doing} {label}: {reason(error)}{code}", remedy=remedy or "see the log")


def reason(error: Exception) -> str:
    """One line; the driver's own words repeat whole documents."""
    if isinstance(error, BulkWriteError):
        details = error.details or {}
        problems = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
        return str(problems[0].get("errmsg", "a write failed")) if problems else "a write failed"
    text = str(error).split(", full error:")[0].split(", Timeout:")[0]
    return text.splitlines()[0][:300] if text else type(error).__name__
