"""Start, stop, restart, pause, and commands to all nodes of an app (docs/spec/api.md §8.2)."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hostedapps import composed

from trionode.containers.operations import Work

SHOP = {"fluxweb_shop": "running", "fluxdb_shop": "running"}


def done(hosted: Any) -> list[tuple[str, str]]:
    """What was done to containers since the last look, in order."""
    engine = hosted.apps.engine
    found = [(action, name) for action, name in engine.actions if action not in ("create", "create_network")]
    engine.actions.clear()
    return found


@pytest.mark.trio
async def test_a_composed_app_goes_up_in_order_and_down_in_reverse(hosted: Any) -> None:
    me = hosted.proof(hosted.person)
    done(hosted)
    answer = await hosted.get("/apps/appstop/shop", **me)
    assert answer == {"status": "success", "data": "Flux App shop successfully stopped."}
    assert done(hosted) == [("stop", "fluxdb_shop"), ("stop", "fluxweb_shop")]
    await hosted.get("/apps/appstart/shop", **me)
    assert done(hosted) == [("start", "fluxweb_shop"), ("start", "fluxdb_shop")]
    await hosted.get("/apps/apprestart/shop", **me)
    assert done(hosted) == [
        ("stop", "fluxweb_shop"),
        ("start", "fluxweb_shop"),
        ("stop", "fluxdb_shop"),
        ("start", "fluxdb_shop"),
    ]
    await hosted.get("/apps/apppause/shop", **me)
    assert done(hosted) == [("pause", "fluxdb_shop"), ("pause", "fluxweb_shop")]
    await hosted.get("/apps/appunpause/shop", **me)
    assert done(hosted) == [("unpause", "fluxweb_shop"), ("unpause", "fluxdb_shop")]


@pytest.mark.trio
async def test_one_component_by_its_name(hosted: Any) -> None:
    await hosted.get("/apps/appstop?appname=db_shop", **hosted.proof(hosted.person))
    assert await hosted.apps.states() == {**SHOP, "fluxdb_shop": "exited"}


@pytest.mark.trio
async def test_a_stop_lasts_until_a_start(hosted: Any) -> None:
    me = hosted.proof(hosted.person)
    await hosted.get("/apps/appstop/shop", **me)
    assert hosted.apps.stops.names == {"web_shop", "db_shop"}
    await hosted.get("/apps/appstart/db_shop", **me)
    assert hosted.apps.stops.names == {"web_shop"}
    await hosted.get("/apps/apprestart/shop", **me)
    assert hosted.apps.stops.names == frozenset()


@pytest.mark.trio
async def test_a_stop_is_written_down_before_anything_is_stopped(hosted: Any) -> None:
    hosted.apps.engine.failing.add(("stop", "*"))
    answer = await hosted.get("/apps/appstop/shop", **hosted.proof(hosted.person))
    assert answer["status"] == "error"
    assert "db_shop: " in answer["data"]["message"]
    assert "web_shop: " in answer["data"]["message"]
    assert hosted.apps.stops.names == {"web_shop", "db_shop"}


@pytest.mark.trio
@pytest.mark.parametrize("target", ["other", "mail_shop", "Shop"])
async def test_what_is_not_here_is_not_found(hosted: Any, target: str) -> None:
    answer = await hosted.get(f"/apps/appstart/{target}", **hosted.proof(hosted.operator))
    assert answer["data"]["message"] == "Application not found"
    answer = await hosted.get("/apps/appstart", **hosted.proof(hosted.operator))
    assert answer["data"]["message"] == "No Flux App specified"


@pytest.mark.trio
async def test_an_elected_component_that_stands_still_is_left(hosted: Any) -> None:
    mail = composed("mail", hosted.person.address, "web", "db", data={"db": "g:/data"}, first_port=32000)
    await hosted.apps.add(mail, stopped=["web", "db"])
    answer = await hosted.get("/apps/appstart/mail", **hosted.proof(hosted.person))
    assert answer["status"] == "success"
    assert "db_mail is left as it is: the election" in answer["data"]
    states = await hosted.apps.states()
    assert (states["fluxweb_mail"], states["fluxdb_mail"]) == ("running", "created")
    answer = await hosted.get("/apps/appstart/db_mail", **hosted.proof(hosted.person))
    assert answer["status"] == "warning"


@pytest.mark.trio
async def test_an_app_in_other_hands_is_let_alone(hosted: Any) -> None:
    me = hosted.proof(hosted.person)
    with hosted.apps.operations.doing(Work.SOFT_REDEPLOY, "shop"):
        answer = await hosted.get("/apps/appstop/shop", **me)
    assert (answer["status"], answer["data"]["message"]) == (
        "warning",
        "soft redeploy of shop is in progress",
    )
    with hosted.apps.operations.holding("db_shop"):
        assert (await hosted.get("/apps/apprestart/shop", **me))["status"] == "warning"
        assert (await hosted.get("/apps/appstop/shop", **me))["status"] == "success"
    with hosted.apps.operations.doing(Work.INSTALL, "other"):
        assert (await hosted.get("/apps/appstart/shop", **me))["status"] == "success"


@pytest.mark.trio
async def test_a_client_that_leaves_does_not_leave_half_of_it(hosted: Any, autojump_clock: Any) -> None:
    hosted.apps.engine.takes_s["stop"] = 2.0
    request = hosted.raw("GET", "/apps/appstop/shop", **hosted.proof(hosted.person))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(request.run)
        await trio.sleep(1)
        request.leave()
        nursery.cancel_scope.cancel()
    await trio.sleep(10)
    assert set((await hosted.apps.states()).values()) == {"exited"}


# ---- all nodes ---------------------------------------------------------------------------------------------


def located(hosted: Any, *addresses: str) -> None:
    hosted.log.index.rows = [hosted.Location("shop", "ab", address) for address in addresses]


@pytest.mark.trio
@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("appstart/shop/true", "/apps/appstart/shop"),
        ("appstop/db_shop/true", "/apps/appstop/db_shop"),
        ("apprestart/shop/true", "/apps/apprestart/shop"),
        ("apppause/shop?global=true", "/apps/apppause/shop"),
        ("appunpause/shop/1", "/apps/appunpause/shop"),
        ("appremove/shop/true/true", "/apps/appremove/shop"),
        ("redeploy/shop/true/true", "/apps/redeploy/shop/true"),
        ("redeploy/shop/false/true", "/apps/redeploy/shop/false"),
    ],
)
async def test_a_global_command_goes_to_every_node(
    hosted: Any, autojump_clock: Any, asked: str, sent: str
) -> None:
    hosted.configure("network", allow_private_addresses=True)
    located(hosted, "127.1.0.1", "127.1.0.2:16137")
    me = hosted.proof(hosted.person)
    answer = await hosted.get(f"/apps/{asked}", **me)
    assert answer["status"] == "success"
    assert "queried for global" in answer["data"]["message"]
    await trio.sleep(10)
    (first, path, headers, at), (second, *_, later) = hosted.nodes.asked
    assert (first, second, path) == ("127.1.0.1:16127", "127.1.0.2:16137", sent)
    assert headers == me
    assert later - at == 0.5
    # this node is asked like the others, by its own address, and has done nothing by itself
    assert set((await hosted.apps.states()).values()) == {"running"}
    assert hosted.apps.actions.asked == []


@pytest.mark.trio
async def test_credentials_go_to_listed_public_nodes_only(hosted: Any, autojump_clock: Any) -> None:
    located(hosted, "127.1.0.1", "127.9.9.9")
    me = hosted.proof(hosted.person)
    await hosted.get("/apps/appstart/shop/true", **me)
    await trio.sleep(10)
    assert hosted.nodes.asked == []
    hosted.configure("network", allow_private_addresses=True)
    located(hosted, "127.1.0.1", "127.9.9.9", "127.1.0.1", "::1", "nowhere:x")
    await hosted.get("/apps/appstart/shop/true", **me)
    await trio.sleep(10)
    assert [node for node, *_ in hosted.nodes.asked] == ["127.1.0.1:16127"]


@pytest.mark.trio
async def test_a_dead_node_does_not_keep_the_others(hosted: Any, autojump_clock: Any) -> None:
    hosted.configure("network", allow_private_addresses=True)
    located(hosted, "127.1.0.1", "127.1.0.2:16137")
    hosted.nodes.dead.add("127.1.0.1")
    await hosted.get("/apps/appstart/shop/true", **hosted.proof(hosted.person))
    await trio.sleep(10)
    assert [node for node, *_ in hosted.nodes.asked] == ["127.1.0.2:16137"]
    assert hosted.counters["api.apps.global_commands_failed"] == 1


@pytest.mark.trio
async def test_a_global_command_needs_the_same_right(hosted: Any) -> None:
    assert await hosted.get("/apps/appstart/shop/true") == hosted.refusal
