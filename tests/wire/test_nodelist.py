"""Addresses and the node list (docs/spec/wire.md §2, §3, §13)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.errors import WireError
from trionode.wire import address
from trionode.wire.nodelist import NodeEntry, NodeList

ROWS: list[Any] = [
    {"ip": "198.51.100.7", "pubkey": "k1", "added_height": 5, "txhash": "t", "tier": "CUMULUS", "rank": 3},
    {"ip": "198.51.100.8:16137", "pubkey": "k1", "added_height": 2},
    {"ip": "", "pubkey": "k2", "added_height": 1},
    {"ip": "198.51.100.9:16127", "pubkey": "k3", "added_height": 5, "outidx": 0},
    "junk",
    {"ip": None, "pubkey": 5, "added_height": "7", "rank": True},
]


def test_look_ups() -> None:
    nodes = NodeList.from_rpc(ROWS)
    assert len(nodes) == 5
    first = nodes.by_address("198.51.100.7")
    assert first is not None
    assert first.txhash == "t"
    assert nodes.by_address("198.51.100.7:16127") is first
    assert nodes.by_address("198.51.100.9") is nodes.by_address("198.51.100.9:16127") is not None
    assert nodes.by_address("198.51.100.8") is None
    assert nodes.by_address("") is nodes.by_address(None) is nodes.by_address(["198.51.100.7"]) is None
    assert set(nodes.by_pubkey("k1")) == {"198.51.100.7", "198.51.100.8:16137"}
    assert nodes.by_pubkey("nobody") == {}
    assert nodes.has_pubkey("k2")
    assert not nodes.has_pubkey("nobody")
    assert nodes.addresses() == ["198.51.100.7", "198.51.100.8:16137", "198.51.100.9:16127"]
    assert [entry.ip for entry in nodes.sorted_for_discovery()] == [
        "198.51.100.8:16137",
        "198.51.100.7",
        "198.51.100.9:16127",
    ]


def test_last_row_of_an_address_wins() -> None:
    nodes = NodeList([NodeEntry(ip="1.2.3.4", pubkey="a"), NodeEntry(ip="1.2.3.4:16127", pubkey="b")])
    found = nodes.by_address("1.2.3.4")
    assert found is not None
    assert found.pubkey == "b"


def test_odd_rows_get_defaults() -> None:
    odd = NodeList.from_rpc(ROWS).entries[-1]
    assert (odd.ip, odd.pubkey, odd.added_height, odd.rank) == ("", "5", 0, 0)
    assert NodeList.from_rpc([]).addresses() == []
    assert not NodeList().has_pubkey("")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1.2.3.4", ("1.2.3.4", 16127)), ("1.2.3.4:16137", ("1.2.3.4", 16137)), ("1.2.3.4:1", ("1.2.3.4", 1))],
)
def test_split(text: str, expected: tuple[str, int]) -> None:
    assert address.split_address(text) == expected
    assert address.split_address(address.bare(*expected)) == expected
    assert address.split_address(address.peer_key(*expected)) == expected


@pytest.mark.parametrize(
    "text", ["", ":1", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:x", "1.2.3.4:٣", "a:1:2"]
)
def test_bad_addresses(text: str) -> None:
    with pytest.raises(WireError):
        address.split_address(text)


@pytest.mark.parametrize(
    ("ip", "routable"),
    [
        ("203.0.113.5", True),
        ("8.8.8.8", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("172.31.255.255", False),
        ("172.32.0.1", True),
        ("192.168.1.1", False),
        ("127.0.0.1", False),
        ("169.254.1.1", False),
        ("100.64.0.1", False),
        ("100.127.255.255", False),
        ("100.128.0.1", True),
        ("::1", False),
        ("2001:db8::1", False),
        ("", False),
        ("1.2.3", False),
        ("1.2.3.4.", False),
        ("1.2.3.04", False),
        ("1.2.3.256", False),
        ("1.2.3.4\n", False),
        ("٣.2.3.4", False),
    ],
)
def test_routable(ip: str, routable: bool) -> None:
    assert address.is_routable_ipv4(ip) is routable


def test_provider_and_same_address() -> None:
    assert address.same_provider("203.0.1.2", "203.0.9.9")
    assert not address.same_provider("203.0.1.2", "203.1.1.2")
    assert address.same_address("1.2.3.4", "1.2.3.4:16127")
    assert not address.same_address("1.2.3.4", "1.2.3.4:16137")


@given(st.text())
def test_address_helpers_raise_only_wire_errors(text: str) -> None:
    address.is_routable_ipv4(text)
    address.provider(text)
    try:
        address.split_address(text)
    except WireError:
        return
