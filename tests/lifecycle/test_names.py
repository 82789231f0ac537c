"""Names of containers and true flags (docs/spec/lifecycle.md §13, D-1, D-2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.lifecycle.local import Component, Container, InstalledApp, components_of
from trionode.lifecycle.names import container_name, containers_of, parse_name, true_flags
from trionode.lifecycle.reconcile import LeaveApp, StartApp, owners_of, plan_reconcile
from trionode.lifecycle.running import runs_well

names = st.from_regex("[A-Za-z][A-Za-z0-9]{0,20}", fullmatch=True)


@given(names, names)
def test_every_container_is_found_again_by_its_app(app: str, component: str) -> None:
    row = InstalledApp(app, "", (Component(f"{component}_{app}"), Component(app)))
    owners = owners_of([row])
    listed = ["/" + container_name(part.identifier) for part in row.components]
    assert {owners[name[1:]] for name in listed} == {app}
    # A component that begins with flux or zel loses its prefix, so only the look-up is right for those.
    if not component.startswith(("flux", "zel")):
        assert containers_of(app, listed) == [name[1:] for name in listed]
        assert parse_name(listed[0]) == (component, app)


@pytest.mark.parametrize(
    ("data", "flags"),
    [
        ("/data", ""),
        ("g:/data", "g"),
        ("rs:/data", "rs"),
        ("sync:/data", "s"),
        ("/cfg:/x", ""),
        ("/data|m:config:/etc/x|f:logs:/y", ""),
        (" g:/data", "g"),
        ("", ""),
        ("g", ""),
    ],
)
def test_only_what_stands_before_the_first_path_is_a_flag(data: str, flags: str) -> None:
    assert true_flags(data) == frozenset(flags)


def test_components_of_a_specification() -> None:
    single = {"version": 3, "name": "old", "containerData": "/d"}
    composed = {"version": 8, "name": "new", "compose": [{"name": "web", "containerData": "g:/d"}]}
    assert components_of(single) == (Component("old", "/d"),)
    assert components_of(composed) == (Component("web_new", "g:/d"),)
    assert components_of({"version": 8, "name": "closed", "compose": [], "enterprise": "..."}) is None
    assert components_of({}) is None


def test_an_app_stands_by_with_stopped_containers_but_not_with_missing_ones() -> None:
    app = InstalledApp("shop", "", (Component("web_shop", "g:/d"), Component("db_shop")))
    plain = InstalledApp("plain", "", (Component("plain"),))
    assert runs_well(app, {"fluxweb_shop": "exited", "fluxdb_shop": "running"})
    assert not runs_well(app, {"fluxweb_shop": "running"}), "D-25"
    assert not runs_well(plain, {"fluxplain": "exited"})
    assert runs_well(plain, {"fluxplain": "running"})


def test_what_is_not_installed_or_has_no_specification_is_left_alone() -> None:
    rows = [InstalledApp("a", "", (Component("a"),))]
    stopped = [Container("fluxa", "exited"), Container("fluxb", "exited")]
    steps = plan_reconcile(rows, stopped, lambda name: None, lambda name: True)
    assert steps == (LeaveApp("a", "no_spec"), LeaveApp("b", "no_spec"))
    steps = plan_reconcile(rows, stopped, lambda name: rows[0].components, lambda name: True)
    assert steps == (StartApp("a", ("a",)), LeaveApp("b", "no_spec"))


def test_what_was_stopped_on_purpose_is_not_started_at_boot() -> None:
    row = InstalledApp("shop", "", (Component("web_shop", "/d"), Component("db_shop", "/d")))
    stopped = [Container("fluxweb_shop", "exited"), Container("fluxdb_shop", "exited")]

    def steps(*stops: str) -> object:
        return plan_reconcile([row], stopped, lambda name: row.components, lambda name: True, stops=stops)

    assert steps("web_shop") == (StartApp("shop", ("db_shop",), partial=True),)
    assert steps("web_shop", "db_shop") == (LeaveApp("shop", "stopped"),)
