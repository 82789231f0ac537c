"""Decisions of the batch processor: arrangement, groups, the order of the chain (registry.md §12)."""

from __future__ import annotations

from typing import Any

from appmessages import owner, paid, permanent, served, signed

from trionode.registry.batch import (
    NO_PREDECESSOR,
    BatchRules,
    Judged,
    NameGroup,
    arrange,
    grouped,
    judge_group,
    judge_groups,
    row_name,
    update_names,
)
from trionode.registry.reasons import Reason
from trionode.registry.rows import PermanentRow

HEIGHT = 2_100_000
RULES = BatchRules(2_200_000)
T = 1_750_000_000_000


def judged(*messages: tuple[dict[str, Any], int], history: tuple[PermanentRow, ...] = ()) -> list[Judged]:
    payments = {document["hash"]: paid(document, height) for document, height in messages}
    rows, _ = arrange([served(document, height) for document, height in messages], payments, set())
    (group,) = grouped(rows, {history[0].name: history} if history else {}, {})
    return list(judge_group(group, RULES))


def accepted(verdicts: list[Judged]) -> list[bool]:
    return [one.row is not None for one in verdicts]


def test_what_need_not_be_judged_is_sorted_out() -> None:
    documents = [signed(name=f"app{n}") for n in range(5)]
    rows = [served(document, HEIGHT) for document in documents]
    rows[1]["valueSat"] = None
    payments = {document["hash"]: paid(document, HEIGHT) for document in documents[:4]}
    found, others = arrange([*rows, rows[0], "nonsense", {}], payments, {documents[2]["hash"]})
    assert {row.hash for row in found} == {documents[0]["hash"], documents[3]["hash"]}
    assert others == {
        documents[1]["hash"]: "no_value",
        documents[2]["hash"]: "known",
        documents[4]["hash"]: "not_on_chain",
        "": "unread",
    }


def test_payment_facts_are_our_own() -> None:
    document = signed()
    (one,) = judged((document, HEIGHT))
    assert one.row == permanent(document, HEIGHT)


def test_an_update_needs_a_lower_block() -> None:
    registration, update = signed(), signed(registers=False, at_ms=T + 1)
    assert accepted(judged((update, HEIGHT + 1), (registration, HEIGHT))) == [True, True]
    verdicts = {one.hash: one for one in judged((update, HEIGHT), (registration, HEIGHT))}
    refused = verdicts[update["hash"]].rejection
    assert refused is not None
    assert (refused.code, refused.note) == (Reason.SIGNATURE_NOT_OWNER, NO_PREDECESSOR)
    assert verdicts[registration["hash"]].row is not None


def test_what_is_newer_in_the_store_is_not_followed() -> None:
    """A stored change of owner above the message does not count, rows between are put in their place."""
    first = permanent(signed(), HEIGHT)
    change = permanent(signed(registers=False, for_owner=owner(1), at_ms=T + 9), HEIGHT + 100)
    early = signed(registers=False, at_ms=T + 1, description="early")
    between = signed(registers=False, at_ms=T + 2, description="between")
    late = signed(registers=False, at_ms=T + 10, description="late")
    verdicts = judged(
        (early, HEIGHT + 10), (between, HEIGHT + 20), (late, HEIGHT + 110), history=(change, first)
    )
    assert accepted(verdicts) == [True, True, False]


def test_crossing_updates_below_two_million() -> None:
    for height, expected in ((1_960_000, True), (2_000_000, False)):
        registration = signed()
        change = signed(registers=False, for_owner=owner(1), at_ms=T + 1)
        late = signed(registers=False, at_ms=T + 2)
        verdicts = judged((registration, height), (change, height + 1), (late, height + 2))
        assert accepted(verdicts) == [True, True, expected]
        assert verdicts[1].owner_before == owner().address


def test_content_is_judged_at_the_height_of_the_payment() -> None:
    for height, expected in ((1_932_379, False), (1_932_380, True)):
        (one,) = judged((signed(), height))
        assert (one.row is not None) is expected
    (bad,) = judged((signed(expire=5_000_000), HEIGHT))
    assert bad.rejection is not None
    assert bad.rejection.code is Reason.EXPIRE_MAX


def test_what_is_encrypted_is_not_looked_into() -> None:
    (one,) = judged((signed(enterprise="QUJD", compose=[], contacts=[]), HEIGHT))
    assert one.row is not None


def test_names_are_filed_as_they_are_formatted() -> None:
    assert row_name({"appSpecifications": {"name": "a"}}) == "a"
    assert row_name({"zelAppSpecifications": {"name": 5}}) == "5"
    assert row_name({"appSpecifications": {}}) == row_name({}) == row_name({"appSpecifications": 1}) == ""
    rows, _ = arrange([served(signed(), HEIGHT)], {signed()["hash"]: paid(signed(), HEIGHT)}, set())
    assert update_names(rows) == set()


def test_groups_can_be_judged_anywhere() -> None:
    documents = [signed(name=f"app{n}") for n in range(4)]
    payments = {document["hash"]: paid(document, HEIGHT) for document in documents}
    rows, _ = arrange([served(document, HEIGHT) for document in documents], payments, set())
    groups = grouped(rows, {}, {})
    assert judge_groups(groups, RULES) == [list(judge_group(group, RULES)) for group in groups]
    empty = NameGroup("none", ())
    assert judge_groups([empty], RULES) == [[]]
