"""What runs and is installed here, as other programs ask it (docs/spec/api.md §7)."""

from __future__ import annotations

from typing import Any

import pytest
from hostedapps import IMAGE, composed

from trionode.containers.operations import Work
from trionode.containers.planned import PlannedAction
from trionode.plans.crashes import Crashes
from trionode.plans.createoptions import CreateOptions


@pytest.mark.trio
@pytest.mark.parametrize(
    "path",
    ["listrunningapps", "listallapps", "listappsimages", "installedapps", "fluxusage", "appsresources"],
)
async def test_a_node_without_an_engine_says_so(node: Any, path: str) -> None:
    answer = await node.get(f"/apps/{path}")
    assert answer["status"] == "error"
    assert "hosting.engine" in answer["data"]["message"]


@pytest.mark.trio
async def test_running_containers_are_listed_as_the_engine_does(hosted: Any) -> None:
    await hosted.apps.engine.stop("fluxdb_shop", 1)
    (row,) = await hosted.data("/apps/listrunningapps")
    assert list(row) == [
        "Id",
        "Names",
        "Image",
        "ImageID",
        "Command",
        "Created",
        "Ports",
        "Labels",
        "State",
        "Status",
    ]
    assert row["Names"] == ["/fluxweb_shop"]
    assert row["State"] == "running"
    assert row["Command"] == "/app"
    assert {"PrivatePort": 80, "PublicPort": 31000, "Type": "tcp"}.items() <= row["Ports"][0].items()
    assert len(await hosted.data("/apps/listallapps")) == 2
    assert len(await hosted.data("/apps/listappsimages")) == 1


@pytest.mark.trio
@pytest.mark.parametrize("held", ["shop", "db_shop"])
async def test_what_a_backup_stopped_counts_as_running(hosted: Any, held: str) -> None:
    await hosted.apps.engine.stop("fluxdb_shop", 1)
    with hosted.apps.operations.holding(held):
        rows = await hosted.data("/apps/listrunningapps")
    assert sorted(row["Names"][0] for row in rows) == ["/fluxdb_shop", "/fluxweb_shop"]


@pytest.mark.trio
async def test_containers_that_are_no_apps_are_nobodys_business(hosted: Any) -> None:
    options = CreateOptions(
        name="watchtower", app="", identifier="", image=IMAGE, hostname="w", network="fluxDockerNetwork_shop"
    )
    await hosted.apps.engine.create(options)
    names = [row["Names"][0] for row in await hosted.data("/apps/listallapps")]
    assert "/watchtower" not in names
    assert len(names) == 2


@pytest.mark.trio
async def test_installed_apps_by_their_exact_name(hosted: Any) -> None:
    await hosted.apps.add(composed("Shop2", "1Owner", "web", first_port=32000))
    assert [spec["name"] for spec in await hosted.data("/apps/installedapps")] == ["Shop2", "shop"]
    (spec,) = await hosted.data("/apps/installedapps/shop")
    assert (spec["hash"], spec["height"]) == ("ab" * 32, 2_099_000)
    assert await hosted.data("/apps/installedapps/Shop") == []
    assert [spec["name"] for spec in await hosted.data("/apps/availableapps")] == ["Shop2", "shop"]


@pytest.mark.trio
async def test_what_apps_take_and_the_machine_has(hosted: Any) -> None:
    hosted.bench.answers["getbenchmarks"] = {"ssd": 250, "ipaddress": "127.1.0.1"}
    await hosted.apps.engine.stop("fluxdb_shop", 1)
    assert await hosted.data("/apps/fluxusage") == {
        "totalApps": 1,
        "runningApps": 0,
        "stoppedApps": 1,
        "nodeSpecs": {"cpuCores": 8, "ram": 32768, "ssdStorage": 250},
    }
    taken = await hosted.data("/apps/appsresources")
    assert taken == {"appsCpusLocked": 1.0, "appsRamLocked": 1000.0, "appsHddLocked": 34.0}


@pytest.mark.trio
async def test_an_engine_that_is_away_is_told_and_not_a_crash(hosted: Any) -> None:
    hosted.apps.engine.failing.add(("containers", "*"))
    answer = await hosted.get("/apps/listrunningapps")
    assert (answer["status"], answer["data"]["name"]) == ("error", "EngineError")
    assert hosted.counters["api.requests.crashed"] == 0


@pytest.mark.trio
async def test_an_engine_that_hangs_is_not_waited_for_for_ever(hosted: Any, autojump_clock: Any) -> None:
    hosted.apps.engine.hanging = True
    answer = await hosted.get("/apps/listallapps")
    assert "did not answer within 30 s" in answer["data"]["message"]


@pytest.mark.trio
async def test_tampering_events(hosted: Any) -> None:
    hosted.apps.tampering.note("shop", "container_vanished", "its container is missing")
    hosted.apps.tampering.note("other", "network_pruned", "gone")
    assert len(await hosted.data("/apps/tamperingevents")) == 2
    (event,) = await hosted.data("/apps/tamperingevents/shop")
    assert event == {
        "name": "shop",
        "type": "container_vanished",
        "details": "its container is missing",
        "timestamp": hosted.now_ms,
    }


@pytest.mark.trio
async def test_what_the_operator_blocks(hosted: Any) -> None:
    hosted.configure("hosting", blocked_ports=(31005,), blocked_repositories=("evil/miner",))
    assert await hosted.data("/flux/blockedports") == [31005]
    assert await hosted.data("/flux/blockedrepositories") == ["evil/miner"]


@pytest.mark.trio
async def test_info_tells_of_the_apps(hosted: Any) -> None:
    info = await hosted.data("/flux/info")
    apps = info["apps"]
    assert info["flux"]["dockerVersion"] == "24.0.0"
    assert apps["fluxusage"]["totalApps"] == 1
    assert len(apps["runningapps"]) == 2
    assert apps["resources"]["appsCpusLocked"] == 1.0


@pytest.mark.trio
async def test_info_is_whole_without_the_engine(hosted: Any) -> None:
    hosted.apps.engine.failing |= {("containers", "*"), ("info", "*")}
    apps = (await hosted.data("/flux/info"))["apps"]
    assert (apps["fluxusage"], apps["runningapps"]) == (None, None)


@pytest.mark.trio
async def test_the_overview_for_operators(hosted: Any) -> None:
    now_ms = hosted.now_ms
    hosted.apps.health.crashes = {"db_shop": Crashes(2, now_ms)}
    await hosted.apps.stops.add(["db_shop"])
    await hosted.apps.engine.stop("fluxdb_shop", 1)
    await hosted.apps.add(composed("gone", "1Owner", "old", first_port=32000))
    await hosted.apps.installed.delete("gone")
    found = await hosted.data("/trionode/containers")
    assert found["engine"]["reachable"] is True
    assert found["operation"] is None
    web, db = found["apps"][0]["components"]
    assert (web["state"], web["ports"], web["crashes"]) == ("running", [31000], None)
    assert (db["state"], db["stoppedOnPurpose"]) == ("exited", True)
    assert db["crashes"]["count"] == 2
    assert db["crashes"]["startedAgainAt"] == "2025-10-09T08:53:50.123Z"
    assert [row["container"] for row in found["leftovers"]] == ["fluxold_gone"]
    assert found["removals"] == []


@pytest.mark.trio
async def test_why_apps_were_removed(hosted: Any) -> None:
    news = hosted.apps.news
    news.removal("older", reason="its time is over", problem="")
    news.removal("gone", reason="asked for", problem="volume fluxdb_gone: busy")
    found = (await hosted.data("/trionode/containers"))["removals"]
    assert [(row["app"], row["reason"]) for row in found] == [
        ("gone", "asked for"),
        ("older", "its time is over"),
    ]
    assert found[0]["problem"] == "volume fluxdb_gone: busy"
    only = (await hosted.data("/trionode/containers?appname=Older"))["removals"]
    assert [row["app"] for row in only] == ["older"]


@pytest.mark.trio
async def test_the_overview_without_an_answer_of_the_engine(hosted: Any) -> None:
    hosted.apps.engine.failing |= {("containers", "*"), ("info", "*")}
    found = await hosted.data("/trionode/containers")
    assert found["engine"]["reachable"] is False
    assert found["engine"]["problem"]
    assert found["apps"][0]["components"][0]["state"] is None


@pytest.mark.trio
async def test_the_plan_in_words(hosted: Any) -> None:
    hosted.apps.actions_planned = (
        PlannedAction("start", "shop", "web_shop", "it is still stopped"),
        PlannedAction("leave", "shop", "db_shop", "it has to wait", hosted.now_ms),
        PlannedAction("remove", "mail", "", "2 nodes run it, 1 are wanted", hosted.now_ms, height=2_100_044),
    )
    assert await hosted.data("/trionode/containerplan") == [
        {
            "action": "start",
            "app": "shop",
            "component": "web_shop",
            "reason": "it is still stopped",
            "when": None,
            "block": None,
        },
        {
            "action": "leave",
            "app": "shop",
            "component": "db_shop",
            "reason": "it has to wait",
            "when": "2025-10-09T08:53:20.123Z",
            "block": None,
        },
        {
            "action": "remove",
            "app": "mail",
            "component": "",
            "reason": "2 nodes run it, 1 are wanted",
            "when": "2025-10-09T08:53:20.123Z",
            "block": 2_100_044,
        },
    ]
    for path in ("/trionode/containerplan/Mail", "/trionode/containerplan?appname=mail"):
        assert [action["app"] for action in await hosted.data(path)] == ["mail"]


@pytest.mark.trio
async def test_nobody_signs_in_while_the_engine_is_away(hosted: Any) -> None:
    assert (await hosted.get("/id/loginphrase"))["status"] == "success"
    hosted.apps.engine.failing.add(("info", "*"))
    assert (await hosted.get("/id/loginphrase"))["data"]["name"] == "EngineError"
    assert (await hosted.get("/id/emergencyphrase"))["status"] == "success"


@pytest.mark.trio
async def test_the_status_counts_the_apps_here(hosted: Any) -> None:
    found = await hosted.data("/trionode/status")
    usual = {"installed": 1, "running": 1, "problem": None, "operation": None, "stoppedOnPurpose": 0}
    assert found["hosting"] == usual
    hosted.apps.engine_problem = "it does not answer"
    assert (await hosted.data("/trionode/status"))["hosting"]["problem"] == "it does not answer"
    await hosted.apps.stops.add(["web_shop"])
    with hosted.apps.operations.doing(Work.REMOVE, "shop"):
        found = await hosted.data("/trionode/status")
    assert found["hosting"]["operation"] == "removal of shop"
    assert found["hosting"]["stoppedOnPurpose"] == 1


@pytest.mark.trio
@pytest.mark.parametrize("what", ["ports", "repositories"])
async def test_a_node_does_not_rewrite_its_configuration(hosted: Any, what: str) -> None:
    path = f"/flux/adjustblocked{what}"
    assert await hosted.post(path, {}) == hosted.refusal
    answer = await hosted.post(path, {}, zelidauth=await hosted.sign_in(hosted.operator))
    assert f"set hosting.blocked_{what} in it" in answer["data"]["message"]
