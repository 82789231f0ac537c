"""What becomes of a paid message (registry.md §10, promotion)."""

from __future__ import annotations

from typing import Any

import pytest
from appmessages import owner, permanent, signed

from trionode.registry.prices import PriceTable
from trionode.registry.promotion import Promotion, PromotionFacts, promotion, update_due_sat
from trionode.registry.reasons import Reason
from trionode.registry.rows import CurrentSpec, TemporaryRow
from trionode.registry.temporary import read_candidate

HEIGHT = 2_200_000
PRICES = PriceTable.flux()
LEAST_SAT = 1_000_000


def temporary(document: dict[str, Any]) -> TemporaryRow:
    return read_candidate(document).temporary_row(0, 1)


def decide(document: dict[str, Any], **changes: Any) -> Promotion:
    facts: dict[str, Any] = {"txid": "t", "height": HEIGHT, "value_sat": 10**10, "daemon_height": HEIGHT + 5}
    return promotion(temporary(document), PromotionFacts(prices=PRICES, **(facts | changes)))


def test_a_paid_registration_becomes_current_and_wakes_its_updates() -> None:
    decided = decide(signed())
    assert decided.activation == "inserted"
    assert decided.permanent is not None
    assert (decided.permanent.txid, decided.permanent.height) == ("t", HEIGHT)
    assert decided.current == CurrentSpec.of(decided.permanent)
    assert decided.queue == "replay"


def test_a_satoshi_less_stays_permanent_only() -> None:
    due_sat = int(decide(signed()).due_sat)
    assert decide(signed(), value_sat=due_sat).activation == "inserted"
    short = decide(signed(), value_sat=due_sat - 1)
    assert (short.activation, short.current, short.queue) == ("underpaid", None, "keep")
    assert short.permanent is not None


@pytest.mark.parametrize(("behind", "activation"), [(99, "inserted"), (100, "expired"), (101, "expired")])
def test_what_has_ended_is_not_activated(behind: int, activation: str) -> None:
    assert decide(signed(expire=100), daemon_height=HEIGHT + behind).activation == activation


@pytest.mark.parametrize(
    ("registers", "existing", "activation"),
    [
        (True, None, "inserted"),
        (True, HEIGHT - 1, "inserted"),
        (True, HEIGHT, "older"),
        (False, None, "gone"),
        (False, HEIGHT - 1, "updated"),
        (False, HEIGHT, "older"),
    ],
)
def test_only_newer_ones_replace_and_updates_never_revive(
    registers: bool, existing: int | None, activation: str
) -> None:
    current = None if existing is None else CurrentSpec("SpecApp8", "{}", "h", existing)
    decided = decide(signed(registers=registers), current=current)
    assert decided.activation == activation
    assert (decided.current is not None) == (activation in ("inserted", "updated"))


def test_the_owner_is_asked_again() -> None:
    first = permanent(signed(), HEIGHT - 100)
    changed = permanent(
        signed(registers=False, for_owner=owner(1), at_ms=first.timestamp_ms + 1), HEIGHT - 50
    )
    late = signed(registers=False, at_ms=first.timestamp_ms + 2)
    refused = decide(late, permanents=[first, changed])
    assert refused.permanent is None
    assert refused.refused is not None
    assert refused.refused.code is Reason.SIGNATURE_NOT_OWNER
    assert decide(late, permanents=[first]).permanent is not None
    assert decide(late, permanents=[]).permanent is not None


def test_an_update_finds_itself_and_owes_the_least() -> None:
    row = permanent(signed(registers=False, instances=50, expire=1_056_000), HEIGHT)
    facts = PromotionFacts(
        txid="t",
        height=HEIGHT,
        value_sat=0,
        daemon_height=HEIGHT,
        permanents=[permanent(signed(), HEIGHT - 100)],
        prices=PRICES,
    )
    assert update_due_sat(row, row.spec(), facts) == LEAST_SAT


def test_an_update_older_than_a_later_payment_pays_the_difference() -> None:
    """The exception: a message signed earlier was paid in a higher block."""
    row = permanent(signed(registers=False, expire=264_000), HEIGHT)
    later = permanent(signed(), HEIGHT + 1000)
    facts = PromotionFacts(
        txid="t", height=HEIGHT, value_sat=0, daemon_height=HEIGHT + 1001, permanents=[later], prices=PRICES
    )
    assert update_due_sat(row, row.spec(), facts) > LEAST_SAT
