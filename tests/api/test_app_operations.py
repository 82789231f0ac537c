"""Remove, redeploy, install through the API: progress, refusals, clients that leave (api.md §8.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hostedapps import composed

from trionode.api.answers import ApiFailure, data
from trionode.api.appdesk import MAX_COMMANDS, MAX_OF_ONE, MAX_STREAMS, AppDesk
from trionode.api.commandstream import KEPT_MESSAGES, CommandStream
from trionode.containers.actions import Outcome
from trionode.containers.operations import Work
from trionode.registry.images import BlockLists
from trionode.registry.rows import CurrentSpec, PermanentRow, TemporaryRow
from trionode.wire.jsjson import stringify

REMOVE = "/apps/appremove/shop"


@pytest.mark.trio
async def test_progress_comes_as_objects_and_an_envelope_at_the_end(hosted: Any) -> None:
    objects = await hosted.streamed(REMOVE, **hosted.proof(hosted.person))
    assert objects[0] == {"status": "Pulling image"}
    # of one layer only the newest message waited
    assert objects[1] == {"status": "Pull complete", "id": "aa"}
    assert objects[-1] == {
        "status": "success",
        "data": {"message": "Flux App shop was successfully removed"},
    }
    assert hosted.apps.actions.asked == [("removal", "shop", {"force": False, "tell_peers": True})]


@pytest.mark.trio
async def test_a_failure_ends_the_stream_with_its_sentence(hosted: Any) -> None:
    hosted.apps.actions.outcome = Outcome(False, "the volume is in use", "unmount")
    objects = await hosted.streamed("/apps/redeploy/shop", **hosted.proof(hosted.person))
    assert objects[-1] == {
        "status": "error",
        "data": {"message": "the volume is in use (at: unmount)"},
    }


@pytest.mark.trio
async def test_without_force_it_waits_for_nobody_and_removes_nothing_unknown(hosted: Any) -> None:
    admin = hosted.proof(hosted.operator)
    assert (await hosted.get("/apps/appremove/other", **admin))["data"]["message"] == "Application not found"
    with hosted.apps.operations.doing(Work.INSTALL, "x"):
        answer = await hosted.get(REMOVE, **admin)
        assert (answer["status"], hosted.apps.actions.asked) == ("warning", [])
        assert "installation of x" in answer["data"]["message"]
        objects = await hosted.streamed(f"{REMOVE}/true", **admin)
    assert objects[-1]["status"] == "success"
    objects = await hosted.streamed("/apps/appremove/other/true", **admin)
    assert [(app, members["force"]) for _, app, members in hosted.apps.actions.asked] == [
        ("shop", True),
        ("other", True),
    ]


@pytest.mark.trio
@pytest.mark.parametrize("path", ["/apps/appremove/web_shop", "/apps/redeploy/web_shop"])
async def test_components_alone_are_refused(hosted: Any, path: str) -> None:
    answer = await hosted.get(path, **hosted.proof(hosted.person))
    assert answer["status"] == "error"
    assert hosted.apps.actions.asked == []


@pytest.mark.trio
async def test_vetted_apps_are_removed_by_owner_and_team(hosted: Any) -> None:
    hosted.apps.lists.found = BlockLists(vetted=("library/web:9",))
    answer = await hosted.get(REMOVE, **hosted.proof(hosted.operator))
    assert "vetted" in answer["data"]["message"]
    assert hosted.apps.actions.asked == []
    for who in (hosted.person, hosted.team):
        assert (await hosted.streamed(REMOVE, **hosted.proof(who)))[-1]["status"] == "success"


@pytest.mark.trio
@pytest.mark.parametrize(
    ("path", "work", "app"),
    [
        ("/apps/redeploy/shop", "soft redeploy", "shop"),
        ("/apps/redeploy/shop/true", "hard redeploy", "shop"),
        ("/apps/redeploycomponent/shop/db", "soft redeploy", "db_shop"),
        ("/apps/redeploycomponent/shop/db/true", "hard redeploy", "db_shop"),
    ],
)
async def test_redeploys(hosted: Any, path: str, work: str, app: str) -> None:
    await hosted.apps.stops.add(["db_shop", "web_other"])
    assert (await hosted.streamed(path, **hosted.proof(hosted.person)))[-1]["status"] == "success"
    assert hosted.apps.actions.asked[0][:2] == (work, app)
    # what was made anew runs, whatever was stopped before
    assert hosted.apps.stops.names == {"web_other"}


@pytest.mark.trio
async def test_redeploys_that_cannot_be(hosted: Any) -> None:
    me = hosted.proof(hosted.operator)
    for held in ("shop", "web_shop"):
        with hosted.apps.operations.holding(held):
            answer = await hosted.get("/apps/redeploy/shop", **me)
        assert answer["status"] == "warning"
    with hosted.apps.operations.holding("shop2"):
        assert (await hosted.streamed("/apps/redeploy/shop", **me))[-1]["status"] == "success"
    hosted.apps.actions.asked.clear()
    answer = await hosted.get("/apps/redeploy/other", **me)
    assert answer["data"]["message"] == "Application not found"
    answer = await hosted.get("/apps/redeploycomponent/shop/mail", **me)
    assert "no component" in answer["data"]["message"]
    assert hosted.apps.actions.asked == []


@pytest.mark.trio
async def test_a_client_that_leaves_changes_nothing_for_the_work(hosted: Any, autojump_clock: Any) -> None:
    hosted.apps.actions.takes_s = 100.0
    request = hosted.raw("GET", REMOVE, **hosted.proof(hosted.person))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(request.run)
        await trio.sleep(1)
        assert request.chunks
        request.leave()
    assert hosted.apps.actions.finished == []
    await trio.sleep(100)
    assert hosted.apps.actions.finished == ["shop"]


@pytest.mark.trio
async def test_a_node_that_stops_says_so(node: Any, autojump_clock: Any) -> None:
    desk, streams = AppDesk(node.probe, node.counters, spacing_s=0.5), []

    async def rest(progress: CommandStream) -> Any:
        await trio.sleep(1000)

    with pytest.raises(ApiFailure):
        desk.begin(rest)
    async with trio.open_nursery() as nursery:
        await nursery.start(desk.run)
        streams.append(desk.begin(rest))
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert (await streams[0].answer()).data == {"message": "The node stops; the command was cut short"}
    with pytest.raises(ApiFailure):
        desk.begin(rest)


@pytest.mark.trio
async def test_a_defect_in_a_command_leaves_the_others_alone(hosted: Any, autojump_clock: Any) -> None:
    async def broken() -> None:
        raise ValueError("a defect")

    me = hosted.proof(hosted.person)
    hosted.apps.actions.during = broken
    objects = await hosted.streamed(REMOVE, **me)
    assert objects[-1]["data"] == {"name": "ValueError", "message": "Internal error"}
    hosted.apps.actions.during = None
    assert (await hosted.streamed(REMOVE, **me))[-1]["status"] == "success"


@pytest.mark.trio
async def test_not_more_than_so_many_at_once(hosted: Any, autojump_clock: Any) -> None:
    async def rest(progress: CommandStream) -> Any:
        await trio.sleep(1000)

    for _ in range(MAX_COMMANDS):
        hosted.desk.begin(rest)
    answer = await hosted.get("/apps/appstart/shop", **hosted.proof(hosted.person))
    assert "Too many" in answer["data"]["message"]
    await trio.sleep(1001)
    assert (await hosted.get("/apps/appstart/shop", **hosted.proof(hosted.person)))["status"] == "success"


@pytest.mark.trio
async def test_whoever_follows_logs_keeps_nobody_from_commands(hosted: Any, autojump_clock: Any) -> None:
    @asynccontextmanager
    async def endless() -> AsyncIterator[AsyncIterator[bytes]]:
        async def pieces() -> AsyncIterator[bytes]:
            await trio.sleep(1000)
            yield b""

        yield pieces()

    me = hosted.proof(hosted.person)
    for number in range(MAX_STREAMS):
        await hosted.desk.pump(endless, f"owner {number // MAX_OF_ONE}")
    with pytest.raises(ApiFailure, match="Too many"):
        await hosted.desk.pump(endless, "somebody else")
    assert (await hosted.get("/apps/appstart/shop", **me))["status"] == "success"


@pytest.mark.trio
async def test_one_caller_does_not_take_all_places(hosted: Any, autojump_clock: Any) -> None:
    async def rest(progress: CommandStream) -> Any:
        await trio.sleep(1000)

    owner = hosted.person.address
    for _ in range(MAX_OF_ONE):
        hosted.desk.begin(rest, owner)
    answer = await hosted.get("/apps/appstart/shop", **hosted.proof(hosted.person))
    assert "Too many of your commands" in answer["data"]["message"]
    answer = await hosted.get("/apps/appstart/shop", **hosted.proof(hosted.operator))
    assert answer["status"] == "success"
    await trio.sleep(1001)
    assert hosted.desk.commands.taken == 0
    assert (await hosted.get("/apps/appstart/shop", **hosted.proof(hosted.person)))["status"] == "success"


@pytest.mark.trio
async def test_a_reader_that_sleeps_loses_the_oldest_news_not_the_answer() -> None:
    stream = CommandStream()
    for number in range(KEPT_MESSAGES + 10):
        stream.tell({"status": f"{number}."})
    stream.finish(data(1))
    chunks = [chunk async for chunk in stream]
    text = b"".join(chunks).decode()
    assert '"9."' not in text
    assert '"10."' in text
    assert text.endswith('{"status":"success","data":1}')


@pytest.mark.trio
async def test_news_of_a_layer_come_in_their_order() -> None:
    stream = CommandStream()
    stream.tell({"status": "Downloading", "id": "aa"})
    stream.tell({"status": "Creating the volume"})
    stream.tell({"status": "Pull complete", "id": "aa"})
    stream.finish(data(1))
    text = b"".join([chunk async for chunk in stream]).decode()
    assert text.index("Creating") < text.index("Pull complete")
    assert "Downloading" not in text


# ---- installing --------------------------------------------------------------------------------------------


def temporary(hosted: Any, spec: dict[str, Any], *, left_ms: int = 1000) -> TemporaryRow:
    bare = {key: value for key, value in spec.items() if key not in ("hash", "height")}
    return TemporaryRow(
        "ef" * 32,
        "fluxappregister",
        1,
        stringify(bare),
        spec["name"],
        spec["owner"],
        hosted.now_ms,
        "sig",
        hosted.now_ms,
        hosted.now_ms + left_ms,
    )


@pytest.mark.trio
async def test_anybody_may_try_what_waits_for_its_payment(hosted: Any) -> None:
    spec = composed("mail", hosted.person.address, "web")
    await hosted.registry.put_temporary(temporary(hosted, spec))
    path = f"/apps/installapplocally/{'EF' * 32}"
    assert await hosted.get(path) == hosted.refusal
    objects = await hosted.streamed(path, **hosted.proof(hosted.key))
    assert objects[-1]["data"]["message"] == "Flux App mail was successfully installed"
    ((work, app, members),) = hosted.apps.actions.asked
    assert (work, app, members["test"]) == ("installation", "mail", False)
    # dated so that it ends 200 blocks from now
    assert members["spec"]["hash"] == "ef" * 32
    assert members["spec"]["height"] + 88_000 == hosted.chain.height + 200


@pytest.mark.trio
async def test_a_message_that_has_expired_is_no_reason(hosted: Any) -> None:
    await hosted.registry.put_temporary(temporary(hosted, composed("mail", "1O", "web"), left_ms=0))
    answer = await hosted.get(f"/apps/installapplocally/{'ef' * 32}", **hosted.proof(hosted.key))
    assert answer == hosted.refusal


@pytest.mark.trio
async def test_paid_apps_are_for_operator_and_team(hosted: Any) -> None:
    spec = composed("mail", hosted.person.address, "web")
    await hosted.registry.put_current(CurrentSpec("mail", stringify(spec), "cd" * 32, 2_099_000))
    path = "/apps/testappinstall/mail"
    assert await hosted.get(path, **hosted.proof(hosted.person)) == hosted.refusal
    # the operator's levels need a session here
    assert await hosted.get(path, **hosted.proof(hosted.operator)) == hosted.refusal
    admin = {"zelidauth": await hosted.sign_in(hosted.operator)}
    assert (await hosted.streamed(path, **admin))[-1]["status"] == "success"
    ((_, app, members),) = hosted.apps.actions.asked
    assert (app, members["test"], members["spec"]["height"]) == ("mail", True, 2_099_000)
    answer = await hosted.get("/apps/installapplocally/unknown", **admin)
    assert "no app" in answer["data"]["message"]


@pytest.mark.trio
async def test_an_ended_app_by_its_hash_for_1000_blocks(hosted: Any) -> None:
    spec = {**composed("old", "1O", "web"), "expire": 5000}
    del spec["hash"], spec["height"]
    row = PermanentRow(
        "aa" * 32, "fluxappregister", 1, stringify(spec), "old", "1O", 1, "s", "t", 2_050_000, 1
    )
    await hosted.registry.add_permanents([row])
    admin = {"zelidauth": await hosted.sign_in(hosted.team)}
    await hosted.streamed(f"/apps/installapplocally/{'aa' * 32}", **admin)
    ((*_, members),) = hosted.apps.actions.asked
    assert members["spec"]["height"] + 5000 == hosted.chain.height + 1000


@pytest.mark.trio
async def test_what_is_installed_is_not_installed_again(hosted: Any) -> None:
    spec = dict(hosted.apps.installed.get("shop").spec)
    await hosted.registry.put_current(CurrentSpec("shop", stringify(spec), "cd" * 32, 2_099_000))
    admin = {"zelidauth": await hosted.sign_in(hosted.operator)}
    answer = await hosted.get("/apps/installapplocally/shop", **admin)
    assert "installed already" in answer["data"]["message"]


@pytest.mark.trio
async def test_an_encrypted_specification_is_installed_by_hand_where_it_can_be_opened(hosted: Any) -> None:
    clear = composed("safe", "1O", "web")
    spec = {**clear, "enterprise": "c2VjcmV0", "compose": []}
    await hosted.registry.put_current(CurrentSpec("safe", stringify(spec), "cd" * 32, 2_099_000))
    admin = {"zelidauth": await hosted.sign_in(hosted.operator)}
    answer = await hosted.get("/apps/installapplocally/safe", **admin)
    assert "encrypted" in answer["data"]["message"]
    hosted.apps.specs.inside["safe"] = clear["compose"]
    *_, last = await hosted.streamed("/apps/installapplocally/safe", **admin)
    assert last["data"]["message"] == "Flux App safe was successfully installed"
