"""Rows of strangers as values: what is unusable is left out or refused."""

from __future__ import annotations

import json

import msgspec
import pytest

from trionode.observer.answers import read_height, read_locations, read_specs


def test_impossible_heights_are_refused() -> None:
    for blocks in (0, -5, 2**40):
        with pytest.raises(ValueError, match="cannot be"):
            read_height(json.dumps({"blocks": blocks, "headers": 5}).encode())
    with pytest.raises(msgspec.DecodeError):
        read_height(b'{"blocks":"5","headers":5}')


def test_unusable_locations_are_left_out() -> None:
    good = {
        "name": "shop",
        "hash": "aa",
        "ip": "9.1.0.1",
        "broadcastedAt": "2026-01-01T00:00:00.000Z",
        "expireAt": "2026-01-01T02:05:00.000Z",
        "osUptime": 5,
    }
    rows = [
        good,
        {**good, "name": 5},
        {**good, "ip": ""},
        {**good, "broadcastedAt": "soon"},
        {**good, "expireAt": None},
        {**good, "hash": "x" * 5000},
        {**good, "broadcastedAt": "9" * 100_000},
    ]
    (found,) = read_locations(json.dumps(rows).encode())
    assert (found.name, found.os_uptime, found.running_since_ms) == ("shop", 5, None)


def test_specifications_are_equal_however_they_are_written() -> None:
    first = read_specs(b'[{"name":"shop","hash":"aa","height":5,"version":8}]')
    second = read_specs(b'[{"version":8, "height":5,"hash":"aa","name":"shop"},{"name":"x"},7]')
    assert [spec.digest for spec in first] == [spec.digest for spec in second]
