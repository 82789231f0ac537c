"""Section runners of registry.json for predecessors, names, guards, expiry and the upkeep of the registry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runner import Context, Outcome, deviates, each, expect, fields, one, register

from trionode.registry import housekeeping, names
from trionode.registry.expiry import expiration_height, is_current, is_over, is_swept
from trionode.registry.predecessor import previous_spec
from trionode.registry.reasons import Rejected
from trionode.registry.rows import CurrentSpec, HashRow, PermanentRow
from trionode.wire.jsjson import stringify

GLOBAL_LIST = "registry.name_conflict.global_list"
"""The one knowing difference here: deviations.toml says why."""


def permanent(document: dict[str, Any], name: str = "App") -> PermanentRow:
    """A row of which the file gives only what matters."""
    fields(document, "height", "type timestamp owner description name hash expire valueSat")
    name = document.get("name", name)
    hash_ = document.get("hash", f"hash of {name} at {document['height']}")
    spec = {"version": 8, "name": name, "description": document.get("description", f"as of {hash_}")}
    spec |= {key: document[key] for key in ("owner", "expire") if key in document}
    return PermanentRow(
        hash_,
        document.get("type", "fluxappregister"),
        1,
        stringify(spec),
        name,
        document.get("owner", ""),
        document.get("timestamp", 1),
        "",
        f"payment for {hash_}",
        document["height"],
        document.get("valueSat", 0),
    )


def current(document: dict[str, Any]) -> CurrentSpec:
    fields(document, "name height", "expire hash")
    spec = {key: document[key] for key in ("name", "expire") if key in document}
    return CurrentSpec(document["name"], stringify(spec), document.get("hash", ""), document["height"])


# ---- §10 ---------------------------------------------------------------------------------------------


@register("registry", "previous_spec")
def previous(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "permanent verification_timestamp out_description", "id note")
        row = previous_spec(map(permanent, case["permanent"]), case["verification_timestamp"])
        expect("description", None if row is None else row.spec()["description"], case["out_description"])

    yield from each("previous_spec", section, check, ("id",))


@register("registry", "name_conflict")
def conflict(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "name hash info local hashes result", "id note")
        expect("result", conflict_result(case), case["result"])

    cases = section if isinstance(section, list) else []
    for number, outcome in enumerate(each("name_conflict", section, check, ("id",))):
        told = outcome
        if outcome.status == "failed" and number < len(cases) and only_in_global_list(cases[number]):
            told = free_instead(outcome.id, cases[number], context)
        yield told


def free_instead(case_id: str, case: dict[str, Any], context: Context) -> Outcome:
    """The advised answer: the name is free."""
    instead = one(case_id, lambda case: expect("result", conflict_result(case), {"ok": True}), case)
    if instead.status == "failed":
        return instead
    told = deviates(GLOBAL_LIST, "bug", context)
    return Outcome(case_id, told.status, told.detail)


def conflict_result(case: dict[str, Any]) -> dict[str, Any]:
    rows = [current(document) for document in case["info"]]
    found = names.find_named(case["name"], {row.name.lower(): row for row in rows})
    payments = {document["hash"]: HashRow.of_document(document) for document in case["hashes"]}
    builtin = [document["name"] for document in case["local"]]
    try:
        names.name_conflict(
            case["name"],
            found,
            hash=case["hash"],
            payment=payments.get(case["hash"]),
            builtin_names=builtin,
        )
    except Rejected as refused:
        return {"ok": False, "code": str(refused.reason)}
    return {"ok": True}


def only_in_global_list(case: dict[str, Any]) -> bool:
    """The original refuses for the sake of a name that only the list of all current specifications holds,
    after it found no conflict with that very specification (§10, "fix recommended")."""
    if not isinstance(case, dict) or not {"name", "info", "local", "result"} <= case.keys():
        return False
    lower = case["name"].lower()
    return (
        case["result"] == {"ok": False, "code": "NAME_TAKEN_LOCAL_LIST"}
        and any(lower == document["name"].lower() for document in case["info"])
        and all(lower != document["name"].lower() for document in case["local"])
    )


@register("registry", "info_guards")
def guards(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(
            case,
            "fn existing_height incoming_height returned stored install_errors_left"
            " install_error_broadcasts_left",
            "id note",
        )
        guard = {"insert": housekeeping.may_insert, "update": housekeeping.may_update}[case["fn"]]
        before, height = case["existing_height"], case["incoming_height"]
        rows = [] if before is None else [{"name": "A", "height": before, "extra": "old"}]
        stored = guard(before, height)
        if stored:
            rows = [{"name": "A", "height": height, "hash": "h"}]
        expect("stored", rows, case["stored"])
        # a guard that says no is no failure, and only what is stored clears the install errors of the name
        expect("returned", True, case["returned"])
        left = 0 if stored else 1
        expect("install errors", left, case["install_errors_left"])
        expect("broadcasts of install errors", left, case["install_error_broadcasts_left"])

    yield from each("info_guards", section, check, ("id", "fn"))


# ---- §8 ----------------------------------------------------------------------------------------------


@register("registry", "expiry")
def expiry(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(
            case,
            "registered_height expire expiration_height at_height expire_loop_removes_global"
            " expire_loop_removes_local reindex_keeps",
            "id note",
        )
        registered, scanned = case["registered_height"], case["at_height"]
        end = expiration_height(registered, case["expire"])
        expect("expiration height", end, case["expiration_height"])
        swept = is_swept(registered, end, scanned)
        expect("loop removes globally", swept, case["expire_loop_removes_global"])
        expect("loop removes locally", swept or is_over(end, scanned), case["expire_loop_removes_local"])
        expect("reindex keeps", is_current(end, scanned), case["reindex_keeps"])

    yield from each("expiry", section, check, ("id", "registered_height"))


@register("registry", "expire_local")
def expire_local(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "scanned_height local removed", "id note")
        installed = []
        for document in case["local"]:
            fields(document, "name", "height expire")
            height = document.get("height")
            end = expiration_height(height or 0, document.get("expire"))
            installed.append(housekeeping.Life(document["name"], height, end))
        removed = housekeeping.local_names_to_remove(installed, case["scanned_height"], ())
        expect("removed", removed, case["removed"])

    yield from single_or_list("expire_local", section, check)


# ---- §12 ---------------------------------------------------------------------------------------------


@register("registry", "reindex")
def reindex(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "scanned_height permanent local_installed info_after removed_locally", "id note")
        # descriptions are left out of the rows: take those that the file knows from what it kept
        told = {document["hash"]: document["description"] for document in case["info_after"]}
        rows = [
            permanent(row if row["hash"] not in told else {**row, "description": told[row["hash"]]})
            for row in case["permanent"]
        ]
        kept = housekeeping.reindexed(housekeeping.newest_by_name(rows).values(), case["scanned_height"])
        ours = [
            {
                "name": row.name,
                "hash": row.hash,
                "height": row.height,
                "description": row.spec()["description"],
            }
            for row in kept
        ]
        expect("info", by_name(ours), by_name(case["info_after"]))
        gone = housekeeping.not_current(case["local_installed"], {row.name for row in kept})
        expect("removed locally", gone, case["removed_locally"])

    yield from single_or_list("reindex", section, check)


@register("registry", "reconstruct")
def reconstruct(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "current_height hashes_before permanent_hashes result hashes_after", "id note")
        fields(case["result"], "changed")
        before = [HashRow.of_document(document) for document in case["hashes_before"]]
        changed = housekeeping.reconstructed(before, set(case["permanent_hashes"]), case["current_height"])
        expect("changed", len(changed), case["result"]["changed"])
        expect("rows", after(case["hashes_before"], changed), case["hashes_after"])

    yield from single_or_list("reconstruct", section, check)


@register("registry", "reset_for_upgrade")
def reset_for_upgrade(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "current_height before modified after", "id note")
        before = [HashRow.of_document(document) for document in case["before"]]
        changed = housekeeping.reset_for_upgrade(before, case["current_height"])
        expect("modified", len(changed), case["modified"])
        expect("rows", after(case["before"], changed), case["after"])

    yield from single_or_list("reset_for_upgrade", section, check)


def after(before: list[dict[str, Any]], changed: Any) -> list[dict[str, Any]]:
    """The documents with the changed rows in their places; fields the file leaves out stay out."""
    new = {row.hash: row.document() for row in changed}
    shown = {
        hash_: {key: value for key, value in document.items() if key not in ABBREVIATED or key in old}
        for old in before
        for hash_, document in new.items()
        if old["hash"] == hash_
    }
    return [shown.get(document["hash"], document) for document in before]


ABBREVIATED = frozenset({"txid", "height", "value", "message"})
"""Fields every real row has; the cases leave out what does not matter to them."""


def by_name(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(documents, key=lambda document: str(document["name"]))


def single_or_list(section: str, cases: Any, check: Any) -> Iterator[Outcome]:
    """These sections hold one case; more of the same form may come as a list."""
    if isinstance(cases, dict) and cases:
        yield one(section, check, cases)
    else:
        yield from each(section, cases, check, ("id",))
