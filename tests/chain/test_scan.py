"""The pure part of the explorer: scripts, payments, soft forks, progress, the window of hashes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.chain.blockhooks import due_at
from trionode.chain.progress import ProgressMeter
from trionode.chain.reorg import BlockWindow
from trionode.chain.scan import (
    PaymentRules,
    indexed_soft_fork,
    minimum_prices,
    op_return_text,
    scan_block,
    scan_transaction,
    soft_fork,
)
from trionode.config.tree import EconomySettings, ExplorerSettings
from trionode.sim.chainpayments import payment, price_transaction

ECONOMY = EconomySettings()
RULES = PaymentRules.from_settings(ECONOMY, ExplorerSettings())
FREE = minimum_prices(ECONOMY)(())
H = 2_100_000
APP = "ab" * 32
OLD_MULTISIG = ECONOMY.multisig_address


@pytest.mark.parametrize(
    ("asm", "text"),
    [
        ("OP_RETURN 4F4b", "OK"),
        ("OP_RETURN 6", "\x06"),
        ("OP_RETURN zz61", "\0a"),
        ("OP_RETURN 6z", "\x06"),
        ("OP_RETURN -1", "\uffff"),
        ("OP_RETURN  161", "\x01a"),
        ("OP_RETURN 0x61", "\0a"),
        ("op_return 61", ""),
        ("OP_RETURN61", ""),
    ],
)
def test_scripts_are_read_as_the_network_reads_them(asm: str, text: str) -> None:
    assert op_return_text(asm) == text


@given(st.text(max_size=80))
def test_any_script_gives_some_text(tail: str) -> None:
    assert len(op_return_text("OP_RETURN " + tail)) <= len(tail)


@given(st.binary(max_size=64).filter(lambda data: b"\0" not in data))
def test_bytes_come_back(data: bytes) -> None:
    assert op_return_text(f"OP_RETURN {data.hex()}") == data.decode("latin-1")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["vout", "vin", "scriptPubKey", "addresses", "asm", "valueSat", "version", "txid"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(JSON.filter(lambda value: isinstance(value, dict)))
def test_nonsense_is_no_payment_and_no_crash(transaction: Any) -> None:
    assert scan_transaction(transaction, H, RULES, FREE) is None
    assert soft_fork(transaction, H, RULES) is None
    assert indexed_soft_fork(transaction, H, RULES) is None


def test_only_the_first_address_of_an_output_counts() -> None:
    made = payment("t", APP)
    made["vout"][0]["scriptPubKey"]["addresses"].insert(0, "t1Somebody")
    assert scan_transaction(made, H, RULES, FREE) is None


def test_an_amount_that_is_missing_is_no_amount() -> None:
    made = payment("t", APP)
    del made["vout"][0]["valueSat"]
    assert scan_transaction(made, H, RULES, FREE) is None


def test_a_price_holds_from_the_next_block_on() -> None:
    made = price_transaction("p_0.03_0.01_0.004_3", H)
    found = scan_block([made, payment("t", APP)], H, RULES, FREE)
    assert (len(found.rows), len(found.chain_messages)) == (1, 1)
    dearer = minimum_prices(ECONOMY)(found.chain_messages)
    assert dearer(H) == 0.01
    assert dearer(H + 1) == 3
    assert scan_transaction(payment("t", APP), H + 1, RULES, dearer) is None


def test_the_development_address_counts_only_when_wanted() -> None:
    made = payment("t", APP, address=ECONOMY.development_address)
    assert scan_transaction(made, H, RULES, FREE) is None
    own = PaymentRules.from_settings(EconomySettings(accept_development=True), ExplorerSettings())
    assert scan_transaction(made, H, own, FREE) is not None


def test_soft_forks_seen_through_the_index_look_at_all_addresses() -> None:
    made = payment("t", "p_1_1_1_1", sender=OLD_MULTISIG)
    made["vout"][0]["scriptPubKey"]["addresses"].insert(0, "t1Somebody")
    made["vout"].reverse()
    made["vout"][1]["scriptPubKey"]["asm"] = "OP_HASH160"
    assert soft_fork(made, H, RULES) is None
    row = indexed_soft_fork(made, H, RULES)
    assert row is not None
    assert (row.message, row.version) == ("p_1_1_1_1", "p")


def test_the_window_keeps_a_hundred_and_knows_what_follows() -> None:
    window = BlockWindow((height, f"h{height}") for height in range(1, 151))
    assert (len(window), window.heights[0]) == (100, 51)
    assert window.follows(151, "h150")
    assert not window.follows(151, "other")
    assert window.follows(151, ""), "a block that names no predecessor cannot be doubted"
    assert window.follows(400, "other"), "nothing is known of its predecessor"
    window.cut(60)
    assert window.heights[-1] == 60


def test_periods_are_longer_since_blocks_come_faster() -> None:
    rules = ExplorerSettings()
    assert due_at(1_000_002, rules, at_tip=True).expire
    assert not due_at(2_100_002, rules, at_tip=True).expire
    assert due_at(2_100_008, rules, at_tip=True).expire
    assert due_at(2_102_400, rules, at_tip=True).reconstruct
    assert not due_at(2_102_400, rules, at_tip=False).reconstruct
    assert due_at(2_100_500, rules, at_tip=False).expire
    assert not due_at(693_000, rules, at_tip=True).expire


def test_progress_follows_a_change_of_pace() -> None:
    meter = ProgressMeter("scan", 10_000, 0.0)
    for second in range(1, 31):
        slow = meter.at(10 * second, float(second))
    assert (round(slow.per_second), slow.left_s) == (10, pytest.approx(970))
    for second in range(31, 51):
        fast = meter.at(300 + 100 * (second - 30), float(second))
    assert round(fast.per_second) == 100
    assert ProgressMeter("scan", 5, 0.0).at(0, 0.0).left_s is None
    assert ProgressMeter("scan", 5, 0.0).at(5, 0.0).left_s == 0
