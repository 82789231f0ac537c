"""The health pass: which component is started, made again, left, and what a failure leads to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.lifecycle.local import Component, InstalledApp
from trionode.lifecycle.names import container_name
from trionode.plans.crashes import Crashes, after_end, start_due_ms
from trionode.plans.health import (
    HealthFacts,
    Leave,
    NoteTampering,
    Recreate,
    Remember,
    RemoveApp,
    StartContainer,
    after_failure,
    plan_health,
    standing_by,
)

WAITS_S = (0.0, 30.0, 300.0)
STATES = st.sampled_from(["running", "exited", "created", None])
DATA = st.sampled_from(["/d", "g:/d", "r:/d", "s:/d", "/d|m:config:/e"])


def app(name: str, *data: str) -> InstalledApp:
    parts = [Component(f"c{number}_{name}", text) for number, text in enumerate(data)]
    return InstalledApp(name, "", tuple(parts))


def facts(one: InstalledApp, states: dict[str, str | None], **more: object) -> HealthFacts:
    present = {container_name(name): state for name, state in states.items() if state is not None}
    given = {"known": frozenset({one.name}), "crash_waits_s": WAITS_S, "now_ms": 1_000_000_000, **more}
    return HealthFacts(apps=[one], states=present, **given)  # type: ignore[arg-type]


def test_a_stopped_component_is_started_at_the_second_look_within_90_minutes() -> None:
    one = app("a", "/d")
    first = facts(one, {"c0_a": "exited"})
    assert isinstance(plan_health(first)[0], Remember)
    seen = {"c0_a": first.now_ms - 60_000}
    assert isinstance(plan_health(facts(one, {"c0_a": "exited"}, seen_ms=seen))[0], StartContainer)
    long_ago = {"c0_a": first.now_ms - 91 * 60_000}
    assert isinstance(plan_health(facts(one, {"c0_a": "exited"}, seen_ms=long_ago))[0], Remember)


@pytest.mark.parametrize("held", ["a", "c0_a"])
@pytest.mark.parametrize("data", ["/d", "g:/d", "r:/d"])
@pytest.mark.parametrize("state", ["exited", None])
def test_what_a_backup_has_is_left_alone(held: str, data: str, state: str | None) -> None:
    (action,) = plan_health(facts(app("a", data), {"c0_a": state}, held=frozenset({held})))
    assert isinstance(action, Leave)


@pytest.mark.parametrize("data", ["/d", "g:/d", "r:/d"])
@pytest.mark.parametrize("state", ["exited", None])
def test_what_was_stopped_on_purpose_stays_stopped(data: str, state: str | None) -> None:
    one = app("a", data, "/d")
    stopped = {"stopped": frozenset({"c0_a"}), "crashes": {"c0_a": Crashes(1, 0), "c1_a": Crashes(1, 0)}}
    action, other = plan_health(facts(one, {"c0_a": state, "c1_a": "exited"}, **stopped))
    assert isinstance(action, Leave)
    assert action.reason == "it was stopped on purpose"
    # a component beside it is looked after as ever; whether an election holds it is another rule
    assert isinstance(other, Leave if data == "g:/d" else StartContainer)


def test_a_received_component_waits_for_half_an_hour_of_listing() -> None:
    one = app("a", "r:/d")
    seen = {"c0_a": 999_999_000}
    (unlisted,) = plan_health(facts(one, {"c0_a": "exited"}, seen_ms=seen))
    since = {"a": 1_000_000_000 - 29 * 60_000}
    (young,) = plan_health(facts(one, {"c0_a": "exited"}, seen_ms=seen, since_ms=since))
    old = {"a": 1_000_000_000 - 30 * 60_000}
    (ready,) = plan_health(facts(one, {"c0_a": "exited"}, seen_ms=seen, since_ms=old))
    assert isinstance(unlisted, Leave)
    assert isinstance(young, Leave)
    assert young.until_ms == 1_000_000_000 + 60_000
    assert isinstance(ready, StartContainer)


def test_a_crash_is_followed_by_a_start_after_ever_longer_waits() -> None:
    one, ended = app("a", "/d"), 1_000_000_000
    crashes = after_end(None, ran_ms=5, now_ms=ended, stable_s=600)
    (at_once,) = plan_health(facts(one, {"c0_a": "exited"}, crashes={"c0_a": crashes}))
    again = after_end(crashes, ran_ms=5, now_ms=ended, stable_s=600)
    (waits,) = plan_health(facts(one, {"c0_a": "exited"}, crashes={"c0_a": again}))
    assert isinstance(at_once, StartContainer)
    assert isinstance(waits, Leave)
    assert waits.until_ms == ended + 30_000
    assert start_due_ms(Crashes(9, ended), WAITS_S) == ended + 300_000
    assert after_end(again, ran_ms=600_000, now_ms=ended, stable_s=600).count == 1


def test_an_unhealthy_container_is_started_again_unless_elected() -> None:
    sick = frozenset({"fluxc0_a"})
    (action,) = plan_health(facts(app("a", "/d"), {"c0_a": "running"}, unhealthy=sick))
    assert isinstance(action, StartContainer)
    assert action.again
    assert plan_health(facts(app("a", "g:/d"), {"c0_a": "running"}, unhealthy=sick)) == ()


def test_a_failure_removes_only_what_is_still_missing_while_nothing_else_goes_on() -> None:
    made = Recreate("a", "c0_a", "missing", keeps_volume=True)
    assert after_failure(made, "x", exists=True, busy=False) == ()
    assert after_failure(made, "x", exists=False, busy=True) == ()
    steps = after_failure(made, "network fluxDockerNetwork_a not found", exists=False, busy=False)
    kinds = [step.kind for step in steps if isinstance(step, NoteTampering)]
    assert kinds == ["recreation_failed", "network_pruned"]
    assert isinstance(steps[-1], RemoveApp)
    assert "c0_a" in steps[-1].reason


@given(st.lists(st.tuples(DATA, STATES), min_size=1, max_size=4), st.booleans(), st.booleans())
def test_no_pass_touches_what_it_must_not(
    parts: list[tuple[str, str | None]], known: bool, busy: bool
) -> None:
    one = app("a", *[data for data, _ in parts])
    states = {f"c{number}_a": state for number, (_, state) in enumerate(parts)}
    seen = dict.fromkeys(states, 999_999_999)
    given_facts = facts(one, states, known=frozenset({"a"} if known else ()), busy=busy, seen_ms=seen)
    actions = plan_health(given_facts)
    assert plan_health(given_facts) == actions
    if busy or not known:
        assert actions == ()
    elected = any(data.startswith("g") for data, _ in parts)
    for action in actions:
        assert action.reason
        if isinstance(action, StartContainer):
            assert not elected
            assert states[action.identifier] not in (None, "running")
        if isinstance(action, Recreate):
            assert states[action.identifier] is None


@given(st.lists(st.tuples(DATA, STATES), min_size=1, max_size=4))
def test_who_is_missing_is_not_announced(parts: list[tuple[str, str | None]]) -> None:
    one = app("a", *[data for data, _ in parts])
    states = {f"c{number}_a": state for number, (_, state) in enumerate(parts)}
    given_facts = facts(one, states)
    if standing_by(given_facts, given_facts.states):
        assert None not in states.values()
        assert any(data[0] in "gr" for data, _ in parts)


def test_old_apps_are_healed_like_all_others() -> None:
    old = InstalledApp("old", "", (Component("old", "/d"),))
    (action,) = plan_health(facts(old, {"old": None}, mounted=frozenset({"old"})))
    assert isinstance(action, Recreate)
    assert action.keeps_volume
    elected = InstalledApp("old", "", (Component("old", "g:/d"),))
    (left,) = plan_health(facts(elected, {"old": "exited"}))
    assert isinstance(left, Leave)
