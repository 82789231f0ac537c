"""Commands to apps: order of the components, elected ones, component forms (docs/spec/api.md §8.2)."""

from __future__ import annotations

import pytest

from trionode.lifecycle.local import Component, InstalledApp
from trionode.plans.control import Command, Do, Skip, app_of, parts_meant, plan_command

SHOP = InstalledApp("shop", "", (Component("web_shop", "/d"), Component("db_shop", "g:/d")))


@pytest.mark.parametrize(
    ("target", "app"), [("shop", "shop"), ("web_shop", "shop"), ("_watchtower", "_watchtower")]
)
def test_the_app_of_a_target(target: str, app: str) -> None:
    assert app_of(target) == app


def test_a_target_is_an_app_or_one_of_its_components() -> None:
    assert parts_meant(SHOP, "shop") == SHOP.components
    assert parts_meant(SHOP, "db_shop") == SHOP.components[1:]
    assert parts_meant(SHOP, "mail_shop") == ()
    assert parts_meant(SHOP, "Shop") == ()


@pytest.mark.parametrize("command", [Command.START, Command.RESTART, Command.UNPAUSE])
def test_forward_in_the_order_of_the_components(command: Command) -> None:
    states = {"fluxweb_shop": "running", "fluxdb_shop": "running"}
    assert plan_command(command, SHOP.components, states) == (Do("web_shop"), Do("db_shop"))


@pytest.mark.parametrize("command", [Command.STOP, Command.PAUSE])
def test_backward_when_they_stand_still_afterwards(command: Command) -> None:
    states = {"fluxweb_shop": "running", "fluxdb_shop": "running"}
    assert plan_command(command, SHOP.components, states) == (Do("db_shop"), Do("web_shop"))


@pytest.mark.parametrize("command", [Command.START, Command.STOP, Command.RESTART])
@pytest.mark.parametrize("state", ["exited", "created", None])
def test_an_elected_component_that_does_not_run_is_passed_by(command: Command, state: str | None) -> None:
    states = {"fluxweb_shop": "exited"} | ({} if state is None else {"fluxdb_shop": state})
    steps = plan_command(command, SHOP.components, states)
    assert Do("web_shop") in steps
    assert [step.identifier for step in steps if isinstance(step, Skip)] == ["db_shop"]
