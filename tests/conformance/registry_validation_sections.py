"""Section runners of registry.json: validation and update compatibility (docs/spec/registry.md §6)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from runner import Context, Mismatch, Outcome, each, expect, fields, register

from trionode.registry.compatibility import check_update_compatible
from trionode.registry.reasons import Rejected
from trionode.registry.validation import validate

PLACEHOLDERS = ("{field}", "{value}", "{limit}")


def judged(rule: Callable[[], None]) -> dict[str, Any]:
    """`result` as the file writes it; a refusal without a proper sentence is a mismatch."""
    try:
        rule()
    except Rejected as error:
        sentence = str(error)
        if not sentence or any(mark in sentence for mark in PLACEHOLDERS):
            raise Mismatch(f"{error.reason} has no sentence") from None
        return {"ok": False, "code": str(error.reason)}
    return {"ok": True}


@register("registry", "validation")
def validation(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "spec height result", "id name note")
        before = copy.deepcopy(case["spec"])
        expect("result", judged(lambda: validate(case["spec"], case["height"])), case["result"])
        expect("spec left as it was", case["spec"], before)

    return each("validation", section, check, ("id", "name"))


@register("registry", "update_compat")
def update_compat(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "new previous result", "id name note")
        result = judged(lambda: check_update_compatible(case["new"], case["previous"]))
        expect("result", result, case["result"])

    return each("update_compat", section, check, ("id", "name"))
