"""Decisions about temporary messages, and the queue of updates that came too early (registry.md §10)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from appmessages import owner, paid, permanent, signed

from trionode.config.tree import RegistrySettings
from trionode.registry.reasons import Reason, Rejected
from trionode.registry.rows import CurrentSpec
from trionode.registry.temporary import (
    QUEUED_PER_NAME,
    PendingUpdates,
    TemporaryFacts,
    judge_temporary,
    read_candidate,
)

HEIGHT = 2_200_000
FACTS = TemporaryFacts(daemon_height=HEIGHT)


def with_facts(**changes: Any) -> TemporaryFacts:
    return msgspec.structs.replace(FACTS, **changes)


def test_a_good_registration_is_kept() -> None:
    assert judge_temporary(read_candidate(signed()), FACTS) is True


def test_the_row_to_keep_holds_the_canonical_text() -> None:
    document = signed()
    raw = {**document, "appSpecifications": {"unknown": 1, **document["appSpecifications"]}}
    row = read_candidate(raw).temporary_row(5, 6)
    assert row.spec() == document["appSpecifications"]
    assert (row.received_at_ms, row.expire_at_ms) == (5, 6)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, Reason.MESSAGE_SHAPE),
        ([], Reason.MESSAGE_SHAPE),
        ({**signed(), "hash": 5}, Reason.MESSAGE_SHAPE),
        ({**signed(), "timestamp": "1"}, Reason.MESSAGE_SHAPE),
        ({**signed(), "appSpecifications": None}, Reason.SPEC_NULL),
        ({**signed(), "appSpecifications": {}}, Reason.MISSING_VERSION),
    ],
)
def test_shape_and_format(data: Any, reason: Reason) -> None:
    with pytest.raises(Rejected) as refused:
        read_candidate(data)
    assert refused.value.reason is reason


def test_rules_are_asked_before_hash_and_signature() -> None:
    bad = {**signed(instances=2, version=7, name="SpecApp7"), "hash": "0" * 64}
    bad["appSpecifications"]["instances"] = 3
    bad["appSpecifications"]["expire"] = 5_000_000
    with pytest.raises(Rejected) as refused:
        judge_temporary(read_candidate(bad), FACTS)
    assert refused.value.reason is Reason.EXPIRE_MAX
    wrong_hash = {**signed(), "hash": "0" * 64, "signature": "none"}
    with pytest.raises(Rejected) as refused:
        judge_temporary(read_candidate(wrong_hash), FACTS)
    assert refused.value.reason is Reason.HASH_MISMATCH


def test_a_taken_name_is_refused_and_told() -> None:
    existing = CurrentSpec.of(permanent(signed(name="specAPP8"), HEIGHT - 10))
    with pytest.raises(Rejected) as refused:
        judge_temporary(read_candidate(signed()), with_facts(existing=existing))
    assert refused.value.reason is Reason.NAME_TAKEN_HASH_UNKNOWN
    assert "SpecApp8" in str(refused.value)


def test_an_update_is_judged_against_what_it_follows() -> None:
    first = permanent(signed(), HEIGHT - 100)
    update = signed(registers=False, at_ms=first.timestamp_ms + 1, description="new")
    assert judge_temporary(read_candidate(update), FACTS) is False
    assert judge_temporary(read_candidate(update), with_facts(permanents=[first])) is True
    stranger = signed(registers=False, by=owner(1), at_ms=first.timestamp_ms + 1)
    with pytest.raises(Rejected) as refused:
        judge_temporary(read_candidate(stranger), with_facts(permanents=[first]))
    assert refused.value.reason is Reason.SIGNATURE_NOT_OWNER


@pytest.mark.parametrize(("height", "accepted"), [(1_999_999, True), (2_000_000, False)])
def test_two_updates_that_crossed(height: int, accepted: bool) -> None:
    """Below 2 000 000 a paid update may be signed by the owner before the last change."""
    rows = [
        permanent(signed(), height - 100),
        permanent(
            signed(registers=False, by=owner(), for_owner=owner(1), at_ms=1_750_000_000_001), height - 50
        ),
    ]
    late = signed(registers=False, at_ms=1_750_000_000_002)
    facts = with_facts(permanents=rows, payment=paid(late, height))
    if accepted:
        assert judge_temporary(read_candidate(late), facts) is True
        facts = with_facts(permanents=rows, daemon_height=height)
    with pytest.raises(Rejected) as refused:
        judge_temporary(read_candidate(late), facts)
    assert refused.value.reason is Reason.SIGNATURE_NOT_OWNER


def enterprise() -> dict[str, Any]:
    return signed(enterprise="QUJD", compose=[], contacts=[])


def test_what_is_encrypted_is_judged_by_secure_nodes_only() -> None:
    candidate = read_candidate(enterprise())
    taken = CurrentSpec.of(permanent(signed(), HEIGHT - 10))
    assert judge_temporary(candidate, with_facts(existing=taken)) is True
    with pytest.raises(Rejected) as refused:
        judge_temporary(candidate, with_facts(secure=True))
    assert refused.value.reason is Reason.CANNOT_DECRYPT
    opened = signed()["appSpecifications"] | {"enterprise": "QUJD"}
    assert judge_temporary(candidate, with_facts(secure=True, opened=opened)) is True
    with pytest.raises(Rejected) as refused:
        judge_temporary(candidate, with_facts(secure=True, opened=opened, existing=taken))
    assert refused.value.reason is Reason.NAME_TAKEN_HASH_UNKNOWN


# ---- the queue ---------------------------------------------------------------------------------------

QUEUED_S = RegistrySettings().pending_update_ttl_s
QUEUED_MS = round(QUEUED_S * 1000)


def test_updates_wait_by_height_and_for_half_an_hour() -> None:
    queue = PendingUpdates(QUEUED_S)
    queue.put("a", "h3", {"n": 3}, 30, 0)
    queue.put("a", "h1", {"n": 1}, 10, 1)
    queue.put("a", "h1", {"n": 1}, 10, 2)
    queue.put("b", "h2", {"n": 2}, 20, 3)
    assert len(queue) == 3
    assert queue.take("a", QUEUED_MS) == [{"n": 1}]
    assert queue.take("a", QUEUED_MS) == []
    assert queue.take("b", QUEUED_MS + 3) == []
    assert len(queue) == 0


def test_the_oldest_names_go_first_and_one_name_cannot_fill_it() -> None:
    queue = PendingUpdates(QUEUED_S, names=2)
    for number, name in enumerate("abc"):
        queue.put(name, "h", {}, number, 0)
    assert (queue.take("a", 1), queue.take("b", 1), queue.take("c", 1)) == ([], [{}], [{}])
    for number in range(QUEUED_PER_NAME + 5):
        queue.put("x", f"h{number}", {}, number, 0)
    assert len(queue) == QUEUED_PER_NAME
    queue.drop("x")
    assert len(queue) == 0
