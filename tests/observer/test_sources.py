"""Whom an observer asks, and whom it stops asking."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from trionode.config.observer import ObserverSettings
from trionode.errors import ConfigError
from trionode.observer.sources import SourceBook, seed_target
from trionode.observer.votes import Dissent

LISTED = [f"9.{number}.0.1" for number in range(1, 40)]


def book(
    *seeds: str, allowed: Callable[[str, int], bool] = lambda ip, port: True, **changes: object
) -> SourceBook:
    return SourceBook(ObserverSettings(**changes), seeds, random.Random(3), allowed=allowed)  # type: ignore[arg-type]


def keys(made: SourceBook) -> set[str]:
    return {source.key for source in made}


def test_seeds_come_first_and_the_list_fills_up() -> None:
    made = book("7.1.0.1", "seed.example:16137")
    made.fill(LISTED, 0.0)
    assert len(made) == 5
    assert {"7.1.0.1:16127", "seed.example:16137"} < keys(made)
    assert not made.has_room


def test_never_more_than_wanted_also_of_many_seeds() -> None:
    made = book(*LISTED[:9])
    assert len(made.fill([], 0.0)) == 5
    assert made.fill(LISTED, 0.0) == []


def test_one_provider_has_one_voice() -> None:
    made = book("7.1.0.1")
    made.fill([f"9.1.0.{number}" for number in range(1, 200)], 0.0)
    assert len(made) == 2


def test_what_may_not_be_asked_is_not() -> None:
    made = book("7.1.0.1", allowed=lambda ip, port: port == 16127 and not ip.startswith("10."))
    made.fill(["10.0.0.1", "9.1.0.1:22", "9.2.0.1:x", "9.3.0.1"], 0.0)
    assert keys(made) == {"7.1.0.1:16127", "9.3.0.1:16127"}


def test_who_fails_often_gives_its_place_away_and_rests() -> None:
    made = book("7.1.0.1", rest_s=100)
    made.fill([], 0.0)
    (source,) = made
    source.failed("dead")
    assert made.weed(10, 0.0) == []
    source.failed("dead")
    source.failed("dead")
    assert made.weed(10, 0.0) == [source]
    made.fill(LISTED[:1], 1.0)
    assert keys(made) == {"9.1.0.1:16127"}
    made.fill(LISTED[:1], 101.0)
    assert "7.1.0.1:16127" in keys(made)


def test_who_rests_is_asked_when_there_is_nobody_else() -> None:
    made = book("7.1.0.1", rest_s=100)
    (source,) = made.fill([], 0.0)
    made.drop(source, 0.0)
    assert made.fill([], 1.0) == []
    assert [again.key for again in made.fill([], 1.0, least=3)] == ["7.1.0.1:16127"]


def test_an_outvoted_node_is_replaced_but_a_seed_is_the_operators_wish() -> None:
    made = book("7.1.0.1")
    made.fill(LISTED, 0.0)
    for source in made:
        source.dissent = Dissent(source.key, missing=10, extra=0)
    dropped = made.weed(100, 0.0)
    assert len(dropped) == 4
    assert [source.is_seed for source in made] == [True]


def test_a_small_difference_is_the_time_of_travel() -> None:
    made = book("7.1.0.1")
    made.fill(LISTED, 0.0)
    for source in made:
        source.dissent = Dissent(source.key, missing=2, extra=1)
    assert made.weed(8000, 0.0) == []


@pytest.mark.parametrize("text", ["", "https://x.example", "a b", "1.2.3.4:99999", ":5", "x/y"])
def test_what_is_no_seed(text: str) -> None:
    with pytest.raises(ConfigError):
        seed_target(text)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("1.2.3.4", ("1.2.3.4", 16127)),
        ("1.2.3.4:16137", ("1.2.3.4", 16137)),
        ("http://node.example:16127/", ("node.example", 16127)),
    ],
)
def test_what_is_a_seed(text: str, target: tuple[str, int]) -> None:
    assert seed_target(text) == target
