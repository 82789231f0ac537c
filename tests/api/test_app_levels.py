"""Who may command an app: its owner, and for most commands operator and team (docs/spec/api.md §2.3)."""

from __future__ import annotations

from typing import Any

import pytest

from trionode.registry.rows import CurrentSpec
from trionode.wire.jsjson import stringify

STOP = "/apps/appstop/web_shop"
ABOVE = ("operator", "team", "person")


@pytest.mark.trio
@pytest.mark.parametrize("who", ABOVE)
async def test_owner_operator_and_team_by_a_phrase_of_no_session(hosted: Any, who: str) -> None:
    answer = await hosted.get(STOP, **hosted.proof(getattr(hosted, who)))
    assert answer["status"] == "success", answer


@pytest.mark.trio
@pytest.mark.parametrize("who", ABOVE)
async def test_a_phrase_of_more_than_two_hours_is_too_old(hosted: Any, who: str) -> None:
    key = getattr(hosted, who)
    assert await hosted.get(STOP, **hosted.proof(key, age_s=7_201)) == hosted.refusal
    assert await hosted.get(STOP, **hosted.proof(key, age_s=-5)) == hosted.refusal
    assert (await hosted.apps.states())["fluxweb_shop"] == "running"
    assert (await hosted.get(STOP, **hosted.proof(key, age_s=7_199)))["status"] == "success"


@pytest.mark.trio
async def test_a_session_here_lasts_longer(hosted: Any) -> None:
    auth = await hosted.sign_in(hosted.person)
    hosted.clock.now += 3 * 3_600_000
    assert (await hosted.get(STOP, zelidauth=auth))["status"] == "success"


@pytest.mark.trio
async def test_nobody_and_strangers_are_refused(hosted: Any) -> None:
    assert await hosted.get(STOP) == hosted.refusal
    assert await hosted.get(STOP, **hosted.proof(hosted.key)) == hosted.refusal
    stolen = hosted.proof(hosted.person)["zelidauth"].replace("signature=", "signature=x")
    assert await hosted.get(STOP, zelidauth=stolen) == hosted.refusal


@pytest.mark.trio
async def test_the_registration_decides_who_the_owner_is_not_the_local_row(hosted: Any) -> None:
    spec = {**hosted.apps.installed.get("shop").spec, "owner": hosted.key.address}
    await hosted.registry.put_current(CurrentSpec("shop", stringify(spec), "cd" * 32, 2_099_500))
    assert await hosted.get(STOP, **hosted.proof(hosted.person)) == hosted.refusal
    assert (await hosted.get(STOP, **hosted.proof(hosted.key)))["status"] == "success"


@pytest.mark.trio
async def test_commands_inside_are_for_the_owner_alone(hosted: Any) -> None:
    body = {"appname": "web_shop", "cmd": ["echo", "hello"]}
    for who in (hosted.operator, hosted.team, hosted.key):
        assert await hosted.post("/apps/appexec", body, **hosted.proof(who)) == hosted.refusal
    response = await hosted.client.post("/apps/appexec", json=body, headers=hosted.proof(hosted.person))
    assert await response.get_data(as_text=True) == "hello\n"


@pytest.mark.trio
async def test_a_name_that_belongs_to_nobody_is_for_operator_and_team(hosted: Any) -> None:
    assert await hosted.get("/apps/appstop/other", **hosted.proof(hosted.person)) == hosted.refusal
    answer = await hosted.get("/apps/appstop/other", **hosted.proof(hosted.team))
    assert answer["data"]["message"] == "Application not found"


@pytest.mark.trio
@pytest.mark.parametrize("path", ["/apps/appstop/shop", "/apps/appremove/shop", "/apps/redeploy/shop"])
async def test_head_changes_nothing(hosted: Any, path: str) -> None:
    response = await hosted.client.head(path, headers=hosted.proof(hosted.person))
    assert response.status_code == 200
    assert set((await hosted.apps.states()).values()) == {"running"}
    assert hosted.apps.actions.asked == []
