"""Runs vector files against the library and says, section by section, what agrees.

A vector file is recognised by its sections, not by its name. `tests/conformance/*_sections.py` register
one runner per (file kind, section); a section without a runner, a case with fields the runner does not
know, and an exception are failures, never skips.

A case may be answered otherwise than the file says only if the file labels it `bug`, if
`deviations.toml` names it with a reason, and if the advised answer was checked instead: `deviates`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tomllib
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from trionode.errors import WireError
from trionode.wire.jsjson import parse

HERE = Path(__file__).resolve().parent
Status = Literal["passed", "failed", "skipped", "deviates"]
STATUSES: tuple[Status, ...] = ("passed", "failed", "skipped", "deviates")


class Outcome(msgspec.Struct, frozen=True):
    """The verdict on one case. `detail` says what differs (failed), or why (deviates, skipped)."""

    id: str
    status: Status
    detail: str = ""


class Deviation(msgspec.Struct, frozen=True):
    """One entry of deviations.toml."""

    id: str
    reason: str


class Mismatch(AssertionError):
    """What the library answered is not what the file says."""


class Context(msgspec.Struct, frozen=True):
    """What a section runner may need besides its own section."""

    kind: str
    document: dict[str, Any]
    deviations: Mapping[str, Deviation]


Section = Callable[[Any, Context], Iterable[Outcome]]
Check = Callable[[Any], None]

SECTIONS: dict[tuple[str, str], Section] = {}
INFORMATION: dict[str, frozenset[str]] = {}
"""Per kind: top-level names that hold no cases."""


def describe_kind(kind: str, information: Iterable[str]) -> None:
    """Say which top-level names of a kind of file hold no cases."""
    INFORMATION[kind] = INFORMATION.get(kind, frozenset()) | frozenset(information)


def register(kind: str, section: str) -> Callable[[Section], Section]:
    """Decorator: this function runs that section. It yields one Outcome per case.

    A section that is an object of parts may be registered part by part, as `section.part`.
    """

    def keep(function: Section) -> Section:
        if (kind, section) in SECTIONS:
            raise ValueError(f"two runners for {kind}.{section}")
        SECTIONS[kind, section] = function
        return function

    return keep


# ---- what section runners are made of ----------------------------------------------------------------


def expect(what: str, ours: object, theirs: object) -> None:
    """Raise Mismatch unless equal; true and 1 are told apart."""
    if ours != theirs or isinstance(ours, bool) != isinstance(theirs, bool):
        raise Mismatch(f"{what}: ours {_short(ours)}, file {_short(theirs)}")


def fields(case: Any, required: str, optional: str = "") -> dict[str, Any]:
    """The case as a dict; Mismatch if a field is missing or unknown, since then it would go unchecked."""
    if not isinstance(case, dict):
        raise Mismatch(f"unknown case shape: {_short(case)}")
    need, may = set(required.split()), set(optional.split())
    missing, unknown = need - case.keys(), case.keys() - need - may
    if missing or unknown:
        raise Mismatch(f"unknown case shape: missing {sorted(missing)}, unknown {sorted(unknown)}")
    return case


def each(section: str, cases: Any, check: Check, name_fields: Sequence[str] = ("name",)) -> Iterator[Outcome]:
    """Run `check` on every case of a list; it raises when the case fails."""
    if not isinstance(cases, list) or not cases:
        yield Outcome(section, "failed", f"unknown section shape: {_short(cases)}")
        return
    for number, case in enumerate(cases):
        name = next((str(case[n]) for n in name_fields if isinstance(case, dict) and n in case), "")
        yield one(f"{section}[{number}] {name}".strip(), check, case)


def one(case_id: str, check: Check, case: Any) -> Outcome:
    """Run one check and turn whatever happens into an outcome."""
    try:
        check(case)
    except Mismatch as error:
        return Outcome(case_id, "failed", str(error))
    except Exception as error:  # noqa: BLE001 - any exception is a failed case
        place = traceback.extract_tb(error.__traceback__)[-1]
        detail = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
        return Outcome(case_id, "failed", detail)
    return Outcome(case_id, "passed")


def deviates(case_id: str, label: str, context: Context) -> Outcome:
    """The outcome for a case whose advised answer was checked and holds, while the file's does not.

    Fails when the label does not allow another answer or nobody wrote down why ours differs.
    """
    if label != "bug":
        return Outcome(case_id, "failed", f"answered otherwise although labelled {label!r}")
    deviation = context.deviations.get(case_id)
    if deviation is None:
        return Outcome(case_id, "failed", "answered otherwise, but deviations.toml does not say why")
    return Outcome(case_id, "deviates", deviation.reason)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"


# ---- running -----------------------------------------------------------------------------------------


def load_sections(directory: Path = HERE) -> None:
    """Import every `*_sections.py` of the directory once."""
    sys.modules.setdefault("runner", sys.modules[__name__])
    for path in sorted(directory.glob("*_sections.py")):
        name = f"conformance_{path.stem}"
        if name in sys.modules:
            continue
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"cannot load {path}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


def load_deviations(path: Path = HERE / "deviations.toml") -> dict[str, Deviation]:
    """Read the list of knowing differences: `[[deviation]]` tables with id and reason."""
    if not path.exists():
        return {}
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    rows = msgspec.convert(table.get("deviation", []), list[Deviation])
    return {row.id: row for row in rows}


def is_known(kind: str, name: str) -> bool:
    """Whether a runner is registered for that section, or for a part of it."""
    return (kind, name) in SECTIONS or any(k == kind and s.startswith(f"{name}.") for k, s in SECTIONS)


def kind_of(document: Mapping[str, Any], stem: str) -> str:
    """The kind whose runners know at least half of the sections, else what the file calls itself."""

    def known(kind: str) -> int:
        return sum(is_known(kind, name) for name in document.keys() - INFORMATION.get(kind, frozenset()))

    kinds = {kind for kind, _ in SECTIONS}
    # several kinds may know a section of that name: the file's own name decides, then who knows most
    for kind in sorted(kinds, key=lambda kind: (kind != stem, -known(kind), kind)):
        sections = document.keys() - INFORMATION.get(kind, frozenset())
        if known(kind) and 2 * known(kind) >= len(sections):
            return kind
    return stem


def run_file(
    path: Path, deviations: Mapping[str, Deviation] | None = None, *, only: frozenset[str] | None = None
) -> dict[str, list[Outcome]]:
    """Outcomes of one file by section. Whatever is wrong with the file itself is a failure too."""
    try:
        document = parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, WireError) as error:
        return {"(file)": [Outcome("(file)", "failed", f"cannot be read: {error}")]}
    if not isinstance(document, dict):
        return {"(file)": [Outcome("(file)", "failed", "is not an object of sections")]}
    kind = kind_of(document, path.stem)
    context = Context(kind, document, load_deviations() if deviations is None else deviations)
    results: dict[str, list[Outcome]] = {}
    for name, section in document.items():
        if name in INFORMATION.get(kind, frozenset({"meta"})) or (only is not None and name not in only):
            continue
        results[name] = _run_section(name, section, context)
    if not results:
        results["(file)"] = [Outcome("(file)", "failed", "holds no section")]
    return results


def _run_section(name: str, section: Any, context: Context) -> list[Outcome]:
    function = SECTIONS.get((context.kind, name))
    if function is None and isinstance(section, dict) and is_known(context.kind, name):
        return [o for part in section for o in _run_section(f"{name}.{part}", section[part], context)]
    if function is None:
        return [Outcome(name, "failed", f"unknown section of a {context.kind} file")]
    outcomes: list[Outcome] = []
    try:
        outcomes.extend(function(section, context))
    except Exception as error:  # noqa: BLE001 - told as a failure of the section
        outcomes.append(Outcome(name, "failed", f"runner broke: {type(error).__name__}: {error}"))
    return outcomes or [Outcome(name, "failed", "no case was found in the section")]


# ---- telling -----------------------------------------------------------------------------------------


def summary(results: Mapping[str, Sequence[Outcome]]) -> dict[str, dict[str, list[dict[str, str]]]]:
    """section -> status -> [{id, detail}], the form of --json."""
    return {
        section: {
            status: [
                {"id": outcome.id, "detail": outcome.detail}
                for outcome in outcomes
                if outcome.status == status
            ]
            for status in STATUSES
        }
        for section, outcomes in results.items()
    }


def print_report(path: Path, results: Mapping[str, Sequence[Outcome]]) -> None:
    """A line per section with its counts, and a line per case that did not simply pass."""
    print(f"{path}")
    for section, outcomes in results.items():
        counts = {status: [o for o in outcomes if o.status == status] for status in STATUSES}
        told = ", ".join(f"{len(found)} {status}" for status, found in counts.items() if found)
        print(f"  {section:<44} {told}")
        for status in ("failed", "skipped", "deviates"):
            for outcome in counts[status]:
                print(f"    {status}: {outcome.id}: {outcome.detail}")


def main(arguments: Sequence[str]) -> int:
    """Entry of scripts/conformance.py; the exit status is 1 when any case failed."""
    parser = argparse.ArgumentParser(prog="conformance.py", description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="vector file (tests/vectors/*.json)"
    )
    parser.add_argument(
        "--only", action="append", metavar="SECTION", help="run only this section (may be given repeatedly)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    options = parser.parse_args(arguments)
    load_sections()
    only = None if options.only is None else frozenset(options.only)
    all_results = {str(path): run_file(path, only=only) for path in options.files}
    outcomes = [o for results in all_results.values() for found in results.values() for o in found]
    totals = {status: sum(o.status == status for o in outcomes) for status in STATUSES}
    if options.json:
        files = {path: summary(results) for path, results in all_results.items()}
        print(json.dumps({"files": files, "totals": totals}, indent=1, ensure_ascii=True))
    else:
        for path, results in all_results.items():
            print_report(Path(path), results)
        print(", ".join(f"{count} {status}" for status, count in totals.items()))
    return 1 if totals["failed"] else 0
