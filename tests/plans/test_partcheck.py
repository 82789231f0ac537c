"""Texts no machine can take are refused with the component and the member they stand in, and no more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.plans.containerdata import parse_container_data
from trionode.plans.environment import Fetched, command, environment
from trionode.plans.partcheck import check_parts
from trionode.plans.parts import Part
from trionode.plans.problem import PlanError, WrongAnswer


def part(**members: Any) -> Part:
    return Part("shop", "db", "db_shop", **{"container_data": "/data", "repotag": "library/db:1", **members})


@pytest.mark.parametrize(
    ("members", "member"),
    [
        ({"environment": ("A=1", "TOKEN=xy\ud800zzy")}, "environmentParameters"),
        ({"environment": ("TOKEN=xy\0zzy",)}, "environmentParameters"),
        ({"commands": ("--token=xy\udfffzzy",)}, "commands"),
        ({"repotag": "library/xy\ud800zzy:1"}, "repotag"),
        ({"container_data": "/data|m:xy\0zzy:/x"}, "containerData"),
        ({"container_data": "/xy\ud800zzy"}, "containerData"),
        ({"secrets": "xy\ud800zzy"}, "secrets"),
        ({"credentials": "anna:xy\ud800zzy"}, "repoauth"),
    ],
)
def test_a_text_no_machine_takes_is_named_by_its_place(members: dict[str, Any], member: str) -> None:
    with pytest.raises(PlanError) as caught:
        check_parts([part(**members)])
    assert f"{member} of db_shop" in caught.value.message
    assert "zzy" not in caught.value.message


def test_folders_that_cannot_be_are_told_with_their_component() -> None:
    with pytest.raises(PlanError, match=r"^db_shop: containerData names component 3"):
        check_parts([part(container_data="/data|3:/x")])
    with pytest.raises(PlanError, match=r"^db_shop: .*cannot be a folder"):
        check_parts([part(container_data=f"/data|m:{'ä' * 200}:/x")])
    with pytest.raises(PlanError, match="more than 4095 bytes"):
        check_parts([part(container_data=f"/{'ä' * 2048}")])


def test_what_is_as_it_should_be_passes() -> None:
    data = "r:/data|m:größe:/größe|f:i.sql:/i.sql"
    check_parts([part(environment=("A=ä\n\U0001f600", ""), commands=("ü",), container_data=data)])


@pytest.mark.parametrize("text", ["A=\ud800", "A=\0"])
def test_what_a_storage_answers_is_looked_at_too(text: str) -> None:
    with pytest.raises(WrongAnswer, match="F_S_ENV"):
        environment(["F_S_ENV=x"], app="shop", own_ip=None, fetched=Fetched(["B=1", text]))
    with pytest.raises(WrongAnswer, match="F_S_CMD"):
        command(["F_S_CMD=x"], Fetched([text]))


@given(st.text(alphabet="0123456789cfm:|/ax.\0\ud800ä ", max_size=40))
def test_whatever_stands_there_it_is_read_or_refused(text: str) -> None:
    try:
        data = parse_container_data("/d|" + text)
    except PlanError:
        return
    for mount in data.mounts:
        assert len(mount.name.encode()) <= 255
        assert "\0" not in mount.target


def test_very_long_numbers_of_components_are_refused() -> None:
    for entry in (f"{'9' * 5000}:/x", f"c:{'9' * 5000}:a:/x"):
        with pytest.raises(PlanError):
            check_parts([part(container_data=f"/d|{entry}")])
