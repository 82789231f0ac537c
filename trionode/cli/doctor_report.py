"""What a doctor's check is, and how many of them are run side by side, none longer than its time."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec
import trio

from trionode.cli.doctor_patient import Patient
from trionode.errors import TrionodeError

CHECK_S = 15.0


class Verdict(enum.Enum):
    """How it stands with one thing."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. `evidence` is what was seen, `remedy` what to do about it."""

    name: str
    verdict: Verdict
    evidence: str
    remedy: str = ""


def ok(name: str, evidence: str) -> Finding:
    return Finding(name, Verdict.OK, evidence)


def warn(name: str, evidence: str, remedy: str) -> Finding:
    return Finding(name, Verdict.WARN, evidence, remedy)


def fail(name: str, evidence: str, remedy: str) -> Finding:
    return Finding(name, Verdict.FAIL, evidence, remedy)


def skip(name: str, why: str) -> Finding:
    return Finding(name, Verdict.SKIP, why)


def failed_by(name: str, error: TrionodeError) -> Finding:
    """A failure in the words of an error that was made for people."""
    return fail(name, error.message, error.remedy or "see the log of the node")


@dataclass(frozen=True)
class Check:
    """A look at one thing; it may find several. One that takes longer than `within_s` is judged `late`."""

    name: str
    look: Callable[[Patient], Awaitable[Sequence[Finding]]]
    within_s: float = CHECK_S
    late: Verdict = Verdict.FAIL
    late_remedy: str = "see what keeps it busy, and try again"


async def examine(patient: Patient, checks: Sequence[Check]) -> list[Finding]:
    """All checks at once; their findings in the order of the checks."""
    found: dict[int, Sequence[Finding]] = {}

    async def run(number: int, check: Check) -> None:
        with trio.move_on_after(check.within_s) as scope:
            try:
                found[number] = await check.look(patient)
            except TrionodeError as error:
                found[number] = [failed_by(check.name, error)]
            except OSError as error:
                found[number] = [fail(check.name, f"{error.strerror or error}", "see the message")]
        if scope.cancelled_caught:
            said = f"no result within {check.within_s:g} s"
            found[number] = [Finding(check.name, check.late, said, check.late_remedy)]

    async with trio.open_nursery() as nursery:
        for number, check in enumerate(checks):
            nursery.start_soon(run, number, check)
    return [finding for number in range(len(checks)) for finding in found[number]]
