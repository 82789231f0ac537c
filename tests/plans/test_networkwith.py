"""The networkWith token, the gate, and who is connected to what."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.plans.networkwith import (
    OnFailure,
    linked_apps,
    named_links,
    plan_forward,
    plan_links,
    plan_reverse,
    refused_link,
)

NAMES = st.lists(st.from_regex(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*", fullmatch=True), max_size=5)


@given(st.text())
def test_any_text_gives_names_that_are_names_and_differ(description: str) -> None:
    names = named_links(description)
    assert all(re.fullmatch(r"[A-Za-z0-9]+(-+[A-Za-z0-9]+)*", name) for name in names)
    assert len({name.lower() for name in names}) == len(names)


@given(NAMES, st.sampled_from([",", " , ", "\n,\t", ",\u00a0", ",\ufeff"]), st.sampled_from(["", '"', "'"]))
def test_what_is_written_is_read(names: list[str], comma: str, quote: str) -> None:
    token = f"x networkWith : [{comma.join(f'{quote}{name}{quote}' for name in names)}] y"
    expected = list({name.lower(): name for name in reversed(names)}.values())
    assert sorted(named_links(token)) == sorted(expected)


@given(st.text(alphabet="networkWITHK\u212a\u0130\u017f:=[] ab", max_size=40))
def test_only_ascii_letters_make_a_token(description: str) -> None:
    if named_links(description):
        assert re.search("(?ai)networkwith", description)


@pytest.mark.parametrize("before", ["\u00e4", "-", ".", "\u212a"])
def test_a_letter_outside_ascii_is_a_word_boundary(before: str) -> None:
    assert named_links(f"{before}networkWith:[appA]") == ("appA",)


def test_an_app_never_links_to_itself_and_needs_a_name() -> None:
    assert linked_apps({"name": "AppA", "description": "networkWith:[appa,b]"}) == ("b",)
    assert linked_apps({"description": "networkWith:[b]"}) == ()
    assert linked_apps(None) == ()


def test_the_gate_says_which_app_and_why() -> None:
    spec = {"name": "me", "owner": "o", "description": "networkWith:[a,b]"}
    refusal = refused_link(spec, {"a": "o", "b": "p"})
    assert refusal is not None
    assert (refusal.app, refusal.why) == ("b", "different_owner")
    assert "another owner" in refusal.sentence
    missing = refused_link(spec, {})
    assert missing is not None
    assert "not installed" in missing.sentence
    assert refused_link(spec, {"a": "o", "b": "o"}) is None


def test_a_failed_connection_ends_what_it_must_and_no_more() -> None:
    specs = [
        {"name": "x", "description": "networkWith:[app]"},
        {"name": "y", "description": "networkWith:[app]"},
    ]
    containers = {"x": ["fluxa_x", "fluxb_x"], "y": ["fluxa_y"]}
    reverse = plan_reverse("app", specs, containers.__getitem__)
    first, second, third = reverse.connects
    assert reverse.on_failure is OnFailure.SKIP_APP
    assert reverse.rest_after(first) == (third,)
    sweep = plan_links(specs, containers.__getitem__)
    assert sweep.rest_after(sweep.connects[0]) == sweep.connects[1:]
    forward = plan_forward("fluxa_x", {"name": "x", "description": "networkWith:[app,b]"})
    assert forward.rest_after(forward.connects[0]) == ()
    assert second.reason == "x shares the network of app"
