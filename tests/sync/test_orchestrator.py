"""The orchestrator service: news in, runs and requests out, and nothing that goes wrong stops it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from syncworld import HEIGHT, Bench

from trionode.errors import PeerError, StoreError
from trionode.lifecycle.phases import Phase

FIVE = tuple(f"20.0.0.{number}:16127" for number in range(1, 6))


@pytest.fixture
async def node(autojump_clock: Any, bench: Bench) -> AsyncIterator[Bench]:
    """Running and SYNCING: the chain is read, the first hash sync done, enough peers, none fit to ask."""
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.run)
        await trio.sleep(1)
        yield bench
        nursery.cancel_scope.cancel()


def changes(bench: Bench) -> list[str]:
    return [data["to"] for data in bench.named("orchestrator:stateChanged")]


async def become_ready(bench: Bench) -> None:
    bench.state_sync.fit = list(FIVE)
    bench.block(HEIGHT + 1)
    await trio.sleep(1)
    bench.state_sync.answer(*FIVE[:3])
    await trio.sleep(1)
    assert bench.orchestrator.phase is Phase.READY


@pytest.mark.trio
async def test_a_start_is_told_with_its_boot_context(autojump_clock: Any, node: Bench) -> None:
    assert node.named("orchestrator:started") == [
        {"state": "INITIALIZING", "bootContext": {"firstBoot": True}}
    ]
    assert changes(node) == ["SYNCING"]
    assert node.orchestrator.db_ready.is_open
    assert node.orchestrator.first_broadcast.is_open
    assert not node.orchestrator.ready.is_open


@pytest.mark.trio
async def test_peers_answer_and_the_node_is_ready(autojump_clock: Any, node: Bench) -> None:
    await become_ready(node)
    assert node.orchestrator.ready.is_open
    assert len(node.named("ephemeralSync:peerComplete")) == 9
    assert node.named("ephemeralSync:allComplete") == [
        dict.fromkeys(("apprunning", "appinstalling", "apperrors"), 3)
    ]
    assert len(node.named("spawner:resumed")) == 1
    status = node.orchestrator.status.document()
    assert (status["phase"], status["waitsFor"]) == ("READY", [])
    assert status["sinceMs"] == node.clock.now_ms() - 1000
    assert status["forS"] == 1.0


@pytest.mark.trio
async def test_one_peer_that_answers_often_counts_once(autojump_clock: Any, node: Bench) -> None:
    node.state_sync.fit = list(FIVE)
    node.block(HEIGHT + 1)
    await trio.sleep(1)
    for _ in range(5):
        node.state_sync.answer(FIVE[0])
    await trio.sleep(1)
    assert node.orchestrator.phase is Phase.SYNCING
    assert len(node.named("ephemeralSync:peerComplete")) == 3
    assert node.orchestrator.status.completions == dict.fromkeys(
        ("apprunning", "appinstalling", "apperrors"), 1
    )


@pytest.mark.trio
@pytest.mark.parametrize("news", ["block", "peer"])
async def test_too_few_fit_peers_are_looked_for_again(autojump_clock: Any, node: Bench, news: str) -> None:
    node.state_sync.fit = list(FIVE[:2])
    node.block(HEIGHT + 1)
    await trio.sleep(1)
    assert not node.state_sync.asked
    assert "2 of 3" in " ".join(node.orchestrator.status.waits_for)
    node.state_sync.fit = list(FIVE[:4])
    if news == "block":
        node.block(HEIGHT + 2)
    else:
        node.bus.publish("peers:added", {"total": 13})
    await trio.sleep(1)
    assert [keys for _, keys in node.state_sync.asked] == [FIVE[:3]]


@pytest.mark.trio
async def test_further_peers_are_asked_when_the_window_ends(autojump_clock: Any, node: Bench) -> None:
    node.state_sync.fit = list(FIVE)
    node.block(HEIGHT + 1)
    await trio.sleep(1)
    node.state_sync.answer(*FIVE[:2])
    forgotten = node.state_sync.forgotten
    await trio.sleep(118)
    assert len(node.state_sync.asked) == 1
    await trio.sleep(2)
    assert node.state_sync.forgotten == forgotten + 1
    assert [keys for _, keys in node.state_sync.asked] == [FIVE[:3], FIVE[3:]]
    node.state_sync.answer(FIVE[4])
    await trio.sleep(1)
    assert node.orchestrator.phase is Phase.READY


@pytest.mark.trio
async def test_in_the_place_of_a_peer_whose_link_went_another_is_asked_at_once(
    autojump_clock: Any, node: Bench
) -> None:
    node.state_sync.fit = list(FIVE)
    node.block(HEIGHT + 1)
    await trio.sleep(1)
    node.state_sync.answer(FIVE[0])
    node.state_sync.lose(FIVE[0])
    node.state_sync.lose(FIVE[2])
    await trio.sleep(1)
    assert [keys for _, keys in node.state_sync.asked] == [FIVE[:3], FIVE[3:4]]
    node.state_sync.answer(FIVE[1], FIVE[3])
    await trio.sleep(1)
    assert node.orchestrator.phase is Phase.READY


@pytest.mark.trio
async def test_a_peer_that_is_back_on_another_link_is_asked_again_at_once(
    autojump_clock: Any, node: Bench
) -> None:
    node.state_sync.fit = list(FIVE[:3])
    node.block(HEIGHT + 1)
    await trio.sleep(1)
    node.state_sync.answer(*FIVE[:2])
    node.state_sync.lose(FIVE[2])
    await trio.sleep(5)
    assert len(node.state_sync.asked) == 1
    node.state_sync.fit.append(FIVE[2])
    node.bus.publish("peers:added", {"total": 13})
    await trio.sleep(1)
    assert [keys for _, keys in node.state_sync.asked][1:] == [FIVE[2:3]]
    node.state_sync.answer(FIVE[2])
    await trio.sleep(1)
    assert node.orchestrator.phase is Phase.READY


@pytest.mark.trio
async def test_when_nobody_is_left_the_silent_are_asked_once_more(autojump_clock: Any, node: Bench) -> None:
    node.state_sync.fit = list(FIVE[:3])
    node.block(HEIGHT + 1)
    await trio.sleep(1)
    node.state_sync.answer(*FIVE[:2])
    await trio.sleep(120 + 290)
    assert len(node.state_sync.asked) == 1
    node.state_sync.fit = list(FIVE[:4])
    await trio.sleep(20)
    assert [keys for _, keys in node.state_sync.asked][1:] == [FIVE[2:4]]


@pytest.mark.trio
async def test_requests_that_cannot_be_signed_are_tried_again(autojump_clock: Any, node: Bench) -> None:
    node.state_sync.fit = list(FIVE)
    node.state_sync.error = PeerError("no key", remedy="give it one")
    node.block(HEIGHT + 1)
    await trio.sleep(1)
    assert node.counters["orchestrator.failed.AskingFailed"] == 1
    node.state_sync.error = None
    node.block(HEIGHT + 2)
    await trio.sleep(1)
    assert len(node.state_sync.asked) == 1


@pytest.mark.trio
async def test_the_right_to_send_comes_and_goes(autojump_clock: Any, node: Bench) -> None:
    await become_ready(node)
    node.bus.publish("chain:capability", {"capable": False})
    await trio.sleep(1)
    assert node.orchestrator.phase is Phase.SYNCING
    assert node.orchestrator.db_ready.is_open
    assert "the right to send" in " ".join(node.orchestrator.status.waits_for)
    node.bus.publish("chain:capability", {"capable": True})
    await trio.sleep(1)
    assert changes(node) == ["SYNCING", "READY", "SYNCING", "READY"]
    assert (len(node.named("spawner:resumed")), len(node.named("spawner:paused"))) == (2, 1)
    assert len(node.named("hashSync:complete")) == 1


@pytest.mark.trio
async def test_peers_go_come_and_go_while_it_resyncs(autojump_clock: Any, node: Bench) -> None:
    await become_ready(node)
    node.enough_peers(False)
    await trio.sleep(1)
    assert node.orchestrator.phase is Phase.DEGRADED
    assert not node.orchestrator.db_ready.is_open
    assert node.orchestrator.first_broadcast.is_open
    node.enough_peers()
    await trio.sleep(1)
    assert node.orchestrator.phase is Phase.RESYNCING
    node.enough_peers(False)
    await trio.sleep(1)
    assert node.orchestrator.phase is Phase.DEGRADED
    node.enough_peers()
    await trio.sleep(1)
    node.state_sync.answer(*FIVE[:3])
    await trio.sleep(1)
    assert changes(node)[2:] == ["DEGRADED", "RESYNCING", "DEGRADED", "RESYNCING", "READY"]
    assert len(node.named("spawner:paused")) == 1


@pytest.mark.trio
async def test_250_blocks_after_a_degradation_make_it_ready_again(autojump_clock: Any, node: Bench) -> None:
    for height in range(HEIGHT + 1, HEIGHT + 251):
        node.block(height)
    await trio.sleep(1)
    assert node.orchestrator.phase is Phase.READY
    node.enough_peers(False)
    await trio.sleep(1)
    node.enough_peers()
    await trio.sleep(10)
    assert node.orchestrator.phase is Phase.RESYNCING
    node.block(HEIGHT + 499)
    await trio.sleep(1)
    assert node.orchestrator.phase is Phase.RESYNCING
    assert node.orchestrator.status.waits_for[-1].startswith("at the latest 1 more block")
    node.block(HEIGHT + 500)
    await trio.sleep(1)
    assert node.orchestrator.phase is Phase.READY


@pytest.mark.trio
async def test_the_node_list_comes_late(autojump_clock: Any, bench: Bench) -> None:
    bench.node_list.close()
    bench.state_sync.fit = list(FIVE)
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.run)
        await trio.sleep(1)
        assert not bench.orchestrator.first_broadcast.is_open
        assert not bench.state_sync.asked
        bench.node_list.open()
        await trio.sleep(1)
        assert bench.orchestrator.first_broadcast.is_open
        assert len(bench.state_sync.asked) == 1
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_a_run_that_crashes_is_a_failed_run(
    autojump_clock: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(height: int) -> Any:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    monkeypatch.setattr(bench.sync, "first_run", broken)
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.run)
        await trio.sleep(1000)
        failed = bench.named("hashSync:failed")
        assert [(data["attempt"], data["error"]) for data in failed] == [
            (attempt, "ZeroDivisionError") for attempt in (1, 2, 3)
        ]
        monkeypatch.undo()
        # long after the blocks have waived the messages a block begins anew
        bench.block(HEIGHT)
        bench.block(HEIGHT + 349)
        await trio.sleep(10)
        assert bench.orchestrator.db_ready.is_open
        assert not bench.named("hashSync:complete")
        bench.block(HEIGHT + 350)
        await trio.sleep(10)
        assert [data["attempt"] for data in bench.named("hashSync:complete")] == [4]
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_two_reasons_for_a_rebuild_make_one_after_the_other(
    autojump_clock: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = most = done = 0

    async def slow() -> int:
        nonlocal at_once, most, done
        at_once += 1
        most = max(most, at_once)
        await trio.sleep(50)
        at_once -= 1
        done += 1
        return 0

    monkeypatch.setattr(bench.registry, "reindex", slow)
    bench.facts.can_send = False
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.run)
        bench.block(HEIGHT)
        bench.block(HEIGHT + 249)
        await trio.sleep(10)
        bench.block(HEIGHT + 250)
        bench.bus.publish("chain:capability", {"capable": True})
        await trio.sleep(200)
        assert (most, done) == (1, 2)
        assert bench.orchestrator.phase is Phase.READY
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_a_restart_of_the_service_begins_anew(autojump_clock: Any, bench: Bench) -> None:
    bench.state_sync.fit = list(FIVE)
    for life in range(2):
        async with trio.open_nursery() as nursery:
            await nursery.start(bench.run)
            await trio.sleep(1)
            bench.state_sync.answer(*FIVE[:3])
            await trio.sleep(1)
            assert bench.orchestrator.phase is Phase.READY
            assert len(bench.named("spawner:paused")) == life
            nursery.cancel_scope.cancel()
        bench.state_sync.answer(FIVE[4])
    assert [data["state"] for data in bench.named("orchestrator:started")] == ["INITIALIZING"] * 2


@pytest.mark.trio
async def test_news_that_were_lost_are_looked_up(autojump_clock: Any, node: Bench) -> None:
    await become_ready(node)
    node.peers.table.threshold_reached = False
    node.bus.publish("peers:belowThreshold", {"count": 3})
    for number in range(1100):
        node.bus.publish("peers:added", {"total": number})
    await trio.sleep(1)
    assert node.counters["orchestrator.lost_news"] > 0
    assert node.orchestrator.phase is Phase.DEGRADED


@pytest.mark.trio
async def test_an_operators_wish_waits_for_the_run_under_way(
    autojump_clock: Any, node: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[int, bool]] = []
    later = node.sync.later_run

    async def slow(height: int, *, force: bool = False) -> Any:
        runs.append((height, force))
        await trio.sleep(30)
        if len(runs) == 1:
            raise StoreError("no answer", remedy="wait")
        return await later(height, force=force)

    monkeypatch.setattr(node.sync, "later_run", slow)
    node.orchestrator.request_hash_sync()
    node.orchestrator.request_hash_sync()
    node.orchestrator.request_hash_sync(force=True)
    await trio.sleep(100)
    assert runs == [(HEIGHT, False), (0, True)]
    assert node.orchestrator.hash_status.last_error is None


@pytest.mark.trio
async def test_an_effect_that_fails_costs_no_other(
    autojump_clock: Any, node: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(node.state_sync, "forget_marks", broken)
    monkeypatch.setattr(node.state_sync, "eligible", broken)
    await node_degrades(node)
    monkeypatch.undo()
    assert node.counters["orchestrator.failed.ForgetMarks"] == 1
    assert node.counters["orchestrator.failed.LookForPeers"] == 1
    assert node.orchestrator.phase is Phase.RESYNCING
    assert node.orchestrator.db_ready.is_open


async def node_degrades(bench: Bench) -> None:
    bench.enough_peers(False)
    await trio.sleep(1)
    bench.enough_peers()
    await trio.sleep(5)
