"""The rules of a boot: context and decision (docs/spec/lifecycle.md §4)."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.lifecycle.boot import (
    UNKNOWN_CONTEXT,
    AliveRecord,
    BootAction,
    BootContext,
    BootDecision,
    BootFacts,
    BootLimits,
    BootWait,
    boot_context,
    decide,
)

NOW_MS = 1_700_000_000_000
LIMITS = BootLimits()

contexts = st.builds(
    BootContext,
    machine_rebooted=st.booleans(),
    downtime_ms=st.floats(),
    clean_shutdown=st.booleans(),
    current_boot_id=st.none() | st.text(),
    first_boot=st.booleans(),
)
known = st.none() | st.booleans()
facts = st.builds(
    BootFacts,
    daemon_ready=known,
    status_known=known,
    confirmed=st.booleans(),
    dos=st.booleans(),
    data_ready=known,
)


def rebooted(minutes: float, *, clean: bool = False) -> BootContext:
    return BootContext(True, minutes * 60_000, clean, "b", False)


def test_a_process_that_dies_before_the_decision_is_carried_out_is_still_a_reboot() -> None:
    before = AliveRecord(NOW_MS - 60_000, "boot-A", "sigterm")
    pending = AliveRecord(NOW_MS - 1_000, "boot-B", None, pending=before)
    assert boot_context(pending, "boot-B", NOW_MS) == boot_context(before, "boot-B", NOW_MS)
    settled = msgspec.structs.replace(pending, pending=None)
    assert not boot_context(settled, "boot-B", NOW_MS).machine_rebooted


def test_a_first_boot_that_dies_early_is_decided_again() -> None:
    record = AliveRecord(NOW_MS - 1_000, "boot-A", None, pending=AliveRecord())
    context = boot_context(record, "boot-A", NOW_MS)
    assert context == boot_context(None, "boot-A", NOW_MS)
    assert context.first_boot, "else apps that nobody has heard of yet would be removed as not listed"
    assert decide(context, BootFacts(), LIMITS) is BootWait.DAEMON, "its length is not known, so not too long"


def test_the_record_of_another_node_is_read_as_it_is() -> None:
    text = b'{"lastAlive": 1, "machineBootId": "x", "shutdownReason": "sigterm", "_id": "heartbeat"}'
    assert msgspec.json.decode(text, type=AliveRecord) == AliveRecord(1, "x", "sigterm")
    assert msgspec.json.encode(AliveRecord(1, "x")) == b'{"lastAlive":1,"machineBootId":"x"}'


@pytest.mark.parametrize(
    ("context", "removed"),
    [
        (rebooted(7, clean=True), False),
        (rebooted(7.0001, clean=True), True),
        (rebooted(125), False),
        (rebooted(125.0001), True),
        (rebooted(-3, clean=True), False),
        (UNKNOWN_CONTEXT, False),
    ],
)
def test_both_bounds_are_strict_and_a_first_boot_has_none(context: BootContext, removed: bool) -> None:
    found = decide(context, BootFacts(), LIMITS)
    if removed:
        assert isinstance(found, BootDecision)
        assert found.rule == 2
    else:
        assert found is BootWait.DAEMON


@given(contexts, facts)
def test_every_wait_ends_in_a_decision(context: BootContext, found: BootFacts) -> None:
    steps = {BootWait.DAEMON: "daemon_ready", BootWait.STATUS: "status_known", BootWait.DATA: "data_ready"}
    seen: list[BootWait] = []
    while isinstance(step := decide(context, found, LIMITS), BootWait):
        assert step not in seen
        seen.append(step)
        found = msgspec.structs.replace(found, **{steps[step]: True})
    assert seen == [wait for wait in BootWait if wait in seen], "always in the order of the table"
    if step.action is BootAction.RECONCILE:
        assert found.confirmed
        assert not found.dos


@given(contexts)
def test_the_json_form_of_a_context_is_json(context: BootContext) -> None:
    msgspec.json.decode(msgspec.json.encode(context.as_json()))


def test_a_first_start_is_not_said_to_be_a_reboot() -> None:
    known = BootFacts(daemon_ready=True, status_known=True, confirmed=True, data_ready=True)
    decision = decide(boot_context(None, "boot", 1), known, LIMITS)
    assert isinstance(decision, BootDecision)
    assert (decision.rule, decision.reason) == (7, "no earlier start is known")
