"""Promotion: a temporary message that the chain has paid for becomes permanent (docs/spec/registry.md §10).

`promotion` decides what is stored: nothing, when an update is not signed by the owner any more (step 4);
else the permanent row, and the current specification when the app is alive and paid for (steps 5 to 8).
Facts come in, a plan comes out; the caller stores it as one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from trionode.registry.constants import MAINNET, OWNER_RACE_BELOW_HEIGHT, Constants
from trionode.registry.expiry import expiration_height, is_current
from trionode.registry.housekeeping import may_insert, may_update
from trionode.registry.messages import REGISTER_TYPES
from trionode.registry.predecessor import previous_owner, previous_spec
from trionode.registry.prices import PriceTable, price_for_term
from trionode.registry.reasons import Rejected, Rejection
from trionode.registry.rounding import ceil_cents
from trionode.registry.rows import CurrentSpec, PermanentRow, TemporaryRow
from trionode.registry.signatures import Spec, check_update

SAT_PER_FLUX = 100_000_000
UPDATE_SHARE = 0.9
"""An update pays this share of what it adds."""

Activation = Literal["inserted", "updated", "older", "gone", "underpaid", "expired"]
"""What becomes of the current specification: put; not, because a newer one stands or none does (update);
not paid for; or deleted, because the app has ended already."""

Queue = Literal["keep", "replay", "drop"]
"""What becomes of updates that wait for this registration."""


class PromotionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What bears on one promotion. `permanents` are all rows of the name, in storage order."""

    txid: str
    height: int
    value_sat: int
    daemon_height: int
    permanents: Sequence[PermanentRow] = ()
    current: CurrentSpec | None = None
    prices: PriceTable
    secure: bool = False
    opened: Spec | None = None
    previous_opened: Spec | None = None


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done. Without `permanent` the message stays temporary, for the reason `refused`."""

    permanent: PermanentRow | None = None
    refused: Rejection | None = None
    activation: Activation | None = None
    current: CurrentSpec | None = None
    due_sat: float = 0
    queue: Queue = "keep"


def promotion(message: TemporaryRow, facts: PromotionFacts, constants: Constants = MAINNET) -> Promotion:
    """Decide about a temporary message that was paid for in block `facts.height`."""
    spec = message.spec()
    registers = message.type in REGISTER_TYPES
    if not registers:
        try:
            check_owner_again(message, spec, facts, constants)
        except Rejected as error:
            return Promotion(refused=error.rejection)
    row = message.permanent(facts.txid, facts.height, facts.value_sat)
    end_height = expiration_height(facts.height, spec.get("expire"), constants)
    if not is_current(end_height, facts.daemon_height):
        return Promotion(permanent=row, activation="expired")
    due_sat = registration_due_sat(spec, facts) if registers else update_due_sat(row, spec, facts, constants)
    if not facts.value_sat >= due_sat:  # a price that is no number is never paid
        return Promotion(permanent=row, activation="underpaid", due_sat=due_sat)
    existing_height = None if facts.current is None else facts.current.height
    if registers:
        # a newer specification in place is no failure: those who wait are replayed all the same
        put = may_insert(existing_height, facts.height)
        return Promotion(
            permanent=row,
            activation="inserted" if put else "older",
            current=CurrentSpec.of(row) if put else None,
            due_sat=due_sat,
            queue="replay",
        )
    put = may_update(existing_height, facts.height)
    refusal: Activation = "gone" if existing_height is None else "older"
    return Promotion(
        permanent=row,
        activation="updated" if put else refusal,
        current=CurrentSpec.of(row) if put else None,
        due_sat=due_sat,
    )


def check_owner_again(
    message: TemporaryRow, spec: Spec, facts: PromotionFacts, constants: Constants = MAINNET
) -> None:
    """Step 4: the owner may have changed since the message came. Raises Rejected.

    An update that follows nothing we know was judged before, or is judged by those who know.
    """
    previous = previous_spec(facts.permanents, message.timestamp_ms)
    if previous is None:
        return

    def check(owner: str) -> None:
        check_update(
            message.type,
            message.version,
            spec,
            message.timestamp_ms,
            message.signature,
            previous_owner=owner,
            height=facts.daemon_height,
            previous_spec=facts.previous_opened or previous.spec(),
            spec_text=message.spec_text,
            constants=constants,
            system_secure=facts.secure,
            decrypt=None if facts.opened is None else lambda _: facts.opened or {},
        )

    try:
        check(previous.owner)
    except Rejected:
        before = previous_owner(facts.permanents, previous.owner)
        if before is None or facts.height >= OWNER_RACE_BELOW_HEIGHT:
            raise
        check(before)


def registration_due_sat(spec: Spec, facts: PromotionFacts) -> float:
    """What a registration costs, at the prices of the block that paid it."""
    return price_for_term(spec, facts.height, facts.prices) * SAT_PER_FLUX


def update_due_sat(
    row: PermanentRow, spec: Spec, facts: PromotionFacts, constants: Constants = MAINNET
) -> float:
    """What an update costs: the part of its price that the unused part of the old one does not cover.

    The old message is looked for when the new one is stored already, so it normally finds itself and the
    least price is due. Enforcing the price that was meant would fork a node from the network.
    """
    old = row
    for stored in facts.permanents:
        if stored.timestamp_ms <= row.timestamp_ms and stored.height > old.height:
            old = stored
    old_spec = spec if old is row else old.spec()
    price = price_for_term(spec, row.height, facts.prices)
    old_price = price_for_term(old_spec, old.height, facts.prices)
    old_expire = old_spec.get("expire") or constants.default_expire(old.height)
    unused = (old_expire - (row.height - old.height)) / old_expire
    share = (price - unused * old_price) * UPDATE_SHARE if unused > 0 else price * UPDATE_SHARE
    return max(ceil_cents(share), facts.prices.at(row.height).minimum) * SAT_PER_FLUX
