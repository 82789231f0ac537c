"""Keeping an app back for a backup, and letting it go, through the API (docs/api.md)."""

from __future__ import annotations

from typing import Any

import pytest
from hostedapps import composed

from trionode.containers.operations import Work

UP = {"fluxweb_shop": "running", "fluxdb_shop": "running"}
DOWN = {"fluxweb_shop": "exited", "fluxdb_shop": "exited"}


async def signed_in(hosted: Any) -> dict[str, str]:
    """Credentials of the operator of the node."""
    return {"zelidauth": await hosted.sign_in(hosted.operator)}


@pytest.mark.trio
async def test_a_held_app_is_stopped_and_comes_up_when_it_is_released(hosted: Any) -> None:
    me = await signed_in(hosted)
    hosted.apps.engine.actions.clear()
    answer = await hosted.get("/trionode/apphold/shop/90", **me)
    assert answer["status"] == "success"
    assert answer["data"]["message"].startswith("shop is held until 20")
    assert list(hosted.apps.engine.actions) == [("stop", "fluxdb_shop"), ("stop", "fluxweb_shop")]
    assert await hosted.apps.states() == DOWN
    assert hosted.apps.operations.held == {"shop"}
    assert hosted.apps.stops.names == frozenset(), "it is no stop on purpose"
    overview = (await hosted.get("/trionode/containers"))["data"]
    assert overview["held"] == ["shop"]
    assert overview["heldUntil"]["shop"] in answer["data"]["message"]
    assert (await hosted.get("/apps/appstart/shop", **me))["status"] == "warning"

    answer = await hosted.get("/trionode/apprelease/shop", **me)
    assert answer == {"status": "success", "data": {"message": "shop is no longer held"}}
    assert await hosted.apps.states() == UP
    assert hosted.apps.operations.held == frozenset()
    answer = await hosted.get("/trionode/apprelease/shop", **me)
    assert (answer["status"], answer["data"]["message"]) == ("warning", "shop is not held")


@pytest.mark.trio
async def test_it_may_go_on_running(hosted: Any) -> None:
    answer = await hosted.get("/trionode/apphold?appname=shop&running=true", **await signed_in(hosted))
    assert answer["status"] == "success"
    assert await hosted.apps.states() == UP
    assert hosted.apps.operations.held == {"shop"}


@pytest.mark.trio
async def test_a_release_starts_neither_what_was_stopped_on_purpose_nor_who_waits_for_an_election(
    hosted: Any,
) -> None:
    me = await signed_in(hosted)
    mail = composed("mail", hosted.person.address, "web", "db", data={"db": "g:/data"}, first_port=32000)
    await hosted.apps.add(mail)
    await hosted.get("/apps/appstop/db_shop", **me)
    await hosted.get("/apps/apppause/web_shop", **me)
    for app in ("shop", "mail"):
        await hosted.get(f"/trionode/apphold/{app}", **me)
        answer = await hosted.get(f"/trionode/apprelease/{app}", **me)
        assert answer["status"] == "success"
    states = await hosted.apps.states()
    assert (states["fluxweb_shop"], states["fluxdb_shop"]) == ("paused", "exited")
    assert (states["fluxweb_mail"], states["fluxdb_mail"]) == ("running", "exited")


@pytest.mark.trio
async def test_a_container_that_does_not_stop_is_told_and_the_app_stays_held(hosted: Any) -> None:
    hosted.apps.engine.failing.add(("stop", "fluxdb_shop"))
    answer = await hosted.get("/trionode/apphold/shop", **await signed_in(hosted))
    assert answer["status"] == "error"
    assert "db_shop: " in answer["data"]["message"]
    assert hosted.apps.operations.held == {"shop"}
    assert (await hosted.apps.states())["fluxweb_shop"] == "exited"


@pytest.mark.trio
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("apphold", "No Flux App specified"),
        ("apphold/other", "Application not found"),
        ("apphold/db_shop", "Components of an app cannot be held alone"),
        ("apphold/shop/0", "Parameter minutes must be a number from 1 to 1440, not '0'"),
        ("apphold/shop/1441", "Parameter minutes must be a number from 1 to 1440, not '1441'"),
        ("apphold/shop/60/maybe", "Parameter running must be true or false, not 'maybe'"),
        ("apprelease/other", "Application not found"),
    ],
)
async def test_what_cannot_be_held_is_told(hosted: Any, path: str, words: str) -> None:
    answer = await hosted.get(f"/trionode/{path}", **await signed_in(hosted))
    assert (answer["status"], answer["data"]["message"]) == ("error", words)
    assert hosted.apps.operations.held == frozenset()
    assert await hosted.apps.states() == UP


@pytest.mark.trio
async def test_an_app_in_other_hands_is_let_alone(hosted: Any) -> None:
    with hosted.apps.operations.doing(Work.SOFT_REDEPLOY, "shop"):
        answer = await hosted.get("/trionode/apphold/shop", **await signed_in(hosted))
    assert (answer["status"], answer["data"]["message"]) == (
        "warning",
        "soft redeploy of shop is in progress",
    )
    assert hosted.apps.operations.held == frozenset()


@pytest.mark.trio
@pytest.mark.parametrize("path", ["apphold", "apprelease"])
async def test_only_the_operator_may(hosted: Any, path: str) -> None:
    owner = {"zelidauth": await hosted.sign_in(hosted.person)}
    answer = await hosted.get(f"/trionode/{path}/shop", **owner)
    assert answer["status"] == "error"
    assert hosted.apps.operations.held == frozenset()
