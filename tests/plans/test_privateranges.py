"""Rules that keep apps out of private networks (docs/spec/lifecycle.md §1, §12)."""

from __future__ import annotations

import pytest

from trionode.plans.privateranges import guard_chain, is_interface, private_name_servers


def test_only_private_name_servers_need_a_way() -> None:
    text = (
        "# made by hand\nsearch lan\nnameserver 192.168.1.1\nnameserver 9.9.9.9\nnameserver 10.0.0.53 # x\n"
    )
    assert private_name_servers(text) == ("192.168.1.1", "10.0.0.53")


@pytest.mark.parametrize(
    "text", ["", "nameserver", "nameserver fe80::1%eth0", "nameserver ;reboot", "options x"]
)
def test_what_is_no_private_name_server_is_passed_over(text: str) -> None:
    assert private_name_servers(text) == ()


def test_exceptions_come_before_what_is_refused() -> None:
    lines = guard_chain(["br-a"], ["192.168.1.1"]).splitlines()
    assert lines[:2] == ["*filter", ":TRIONODE-PRIVATE - [0:0]"]
    assert lines[-1] == "COMMIT"
    refused = [place for place, line in enumerate(lines) if line.endswith("REJECT")]
    allowed = [place for place, line in enumerate(lines) if line.endswith("RETURN")]
    assert len(refused) == 5
    assert max(allowed) < min(refused)


def test_every_bridge_has_its_rules_once() -> None:
    lines = guard_chain(["br-a", "br-b", "br-a"]).splitlines()
    assert len([line for line in lines if "-i br-a " in line]) == len(
        [line for line in lines if "-i br-b " in line]
    )


def test_without_bridges_nothing_is_refused() -> None:
    assert "REJECT" not in guard_chain([])


@pytest.mark.parametrize(
    ("name", "good"), [("br-0123456789ab", True), ("br-+", False), ("br a", False), ("", False)]
)
def test_names_of_interfaces(name: str, good: bool) -> None:
    assert is_interface(name) is good
