"""The routes of an observer: only questions, nobody signs in, nothing is passed on."""

from __future__ import annotations

from trionode.api.levels import Level
from trionode.api.routes import ROUTES
from trionode.observer.routes import OF_SPECIFICATIONS, SERVED, observer_routes

SERVED_ROUTES = observer_routes(knows_specs=lambda: True)
PATHS = {route.path for route in SERVED_ROUTES}


def test_every_name_is_a_route_of_a_node() -> None:
    assert {route.path for route in ROUTES} >= SERVED | OF_SPECIFICATIONS
    assert PATHS >= SERVED | OF_SPECIFICATIONS


def test_nothing_can_be_changed() -> None:
    assert {route.method for route in SERVED_ROUTES} == {"GET"}
    assert {route.level for route in SERVED_ROUTES} == {Level.PUBLIC}


def test_there_is_no_signing_in_and_no_dialling_on_request() -> None:
    spellings = {path for route in SERVED_ROUTES for path in (route.path, *route.aliases)}
    assert not any(path.startswith(("/id/", "/zelid/", "/explorer/")) for path in spellings)
    assert "/flux/addoutgoingpeer" not in spellings
    assert "/flux/checkfluxavailability" not in spellings
    assert "/daemon/viewdeterministiczelnodelist" in spellings
