"""One hash sync, step by step: requests, waiting, short links, lists of peers (docs/spec/registry.md §12)."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
import trio
from syncworld import HEIGHT, Bench, payment, registration, served_row

from trionode.errors import StoreError
from trionode.registry.messages import message_document
from trionode.registry.rows import HashRow
from trionode.sync.source import SourceError


@pytest.mark.trio
async def test_nothing_missing_is_nothing_done(autojump_clock: Any, bench: Bench) -> None:
    report = await bench.sync.sync_missing()
    assert (report.resolved, report.missing, report.next_retry_height) == (0, 0, None)
    assert not bench.peers.requests


@pytest.mark.trio
async def test_a_run_ends_with_the_last_message(autojump_clock: Any, bench: Bench) -> None:
    messages = await bench.paid(3)
    bench.peers.add("20.0.0.1", "20.0.0.2", "20.0.0.3")
    bench.peers.give("20.0.0.2", *messages)
    report = await bench.sync.sync_missing()
    assert report.resolved == 3
    assert report.missing == 0
    assert report.next_retry_height is None
    # 150 ms for each message, no settling after the last
    assert report.took_s == pytest.approx(0.45, abs=0.26)
    assert {row.name for row in bench.registry.current} == {"App0", "App1", "App2"}


@pytest.mark.trio
async def test_next_round_asks_others(autojump_clock: Any, bench: Bench) -> None:
    messages = await bench.paid(2)
    bench.peers.add(*(f"20.0.0.{n}" for n in range(1, 8)))
    for n in range(1, 8):
        bench.peers.give(f"20.0.0.{n}", messages[0])
    bench.peers.add("20.0.0.9", source="deterministic")
    bench.peers.give("20.0.0.9", *messages)
    report = await bench.sync.sync_missing()
    assert report.resolved == 1
    assert report.rounds == 3
    asked = [ip for _, ip, _ in bench.peers.requests]
    assert len(asked) == len(set(asked)) == 7
    assert {len(hashes) for _, _, hashes in bench.peers.requests[3:]} == {1}
    assert report.missing == 1
    assert report.next_retry_height == HEIGHT + 100


@pytest.mark.trio
async def test_a_slow_peer_keeps_the_window_open_until_the_limit(autojump_clock: Any, bench: Bench) -> None:
    messages = await bench.paid(20)
    bench.peers.add("20.0.0.1")
    bench.peers.give("20.0.0.1", *messages)
    bench.peers.delay_s["20.0.0.1"] = 3.0
    report = await bench.sync.sync_missing()
    # limit: 20 x 150 ms + 5 s
    assert report.took_s == pytest.approx(8.0)
    assert report.resolved == 2


@pytest.mark.trio
async def test_a_peer_slower_than_the_window_is_not_waited_for(autojump_clock: Any, bench: Bench) -> None:
    messages = await bench.paid(20)
    bench.peers.add("20.0.0.1")
    bench.peers.give("20.0.0.1", *messages)
    bench.peers.delay_s["20.0.0.1"] = 4.5
    report = await bench.sync.sync_missing()
    assert report.took_s == pytest.approx(4.0)
    assert report.resolved == 0


@pytest.mark.trio
async def test_refused_messages_are_told_with_the_reason(autojump_clock: Any, bench: Bench) -> None:
    messages = await bench.paid(1)
    bench.peers.add("20.0.0.1")
    bench.peers.give("20.0.0.1", *messages)
    bench.peers.has["20.0.0.1"][messages[0].hash]["timestamp"] += 1
    report = await bench.sync.sync_missing()
    assert report.resolved == 0
    assert any("came and was refused" in sentence for sentence in report.why)


@pytest.mark.trio
async def test_strangers_are_asked_last_over_short_links(autojump_clock: Any, bench: Bench) -> None:
    messages = await bench.paid(2)
    bench.peers.add("20.0.0.1")
    bench.peers.refuses.add("20.1.0.1")
    bench.peers.hangs.add("20.1.0.2")
    bench.peers.give("20.1.0.3", *messages)
    bench.facts.list_nodes("20.0.0.1", "10.9.9.9", "20.1.0.1", "20.1.0.2", "20.1.0.3", "bad:port:here")
    report = await bench.sync.sync_missing()
    assert report.resolved == 2
    assert report.ephemeral == 1
    assert bench.peers.closes == [("20.1.0.3", 4018)]
    assert bench.counters["hashsync.ephemeral_failed.peer"] == 2
    assert report.took_s < 20


@pytest.mark.trio
async def test_at_most_five_strangers(autojump_clock: Any, bench: Bench) -> None:
    await bench.paid(1)
    bench.facts.list_nodes(*(f"20.1.0.{n}" for n in range(1, 20)))
    report = await bench.sync.sync_missing()
    assert report.ephemeral == 5
    assert len(bench.peers.closes) == 5
    assert report.took_s == pytest.approx(4.0)


@pytest.mark.trio
async def test_nobody_to_ask_is_said(autojump_clock: Any, bench: Bench) -> None:
    await bench.paid(1)
    report = await bench.sync.sync_missing()
    assert report.missing == 1
    assert any("nobody to ask" in sentence for sentence in report.why)


@pytest.mark.trio
async def test_a_second_run_beside_the_first_does_nothing(autojump_clock: Any, bench: Bench) -> None:
    await bench.paid(1)
    bench.peers.add("20.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.sync.sync_missing)
        await trio.sleep(1)
        assert bench.sync.is_running
        assert bench.sync.left == 1
        assert bench.sync.progress is not None
        assert (bench.sync.progress.done, bench.sync.progress.total) == (0, 1)
        report = await bench.sync.sync_missing()
        assert report.skipped
    assert bench.sync.progress is None
    assert len(bench.peers.requests) == 1
    row = (await bench.store.hashes(missing=True))[0]
    assert row.sync_attempts == 1


@pytest.mark.trio
async def test_a_message_that_comes_while_the_ladder_is_written_stays(
    autojump_clock: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = await bench.paid(1)
    row = payment(messages[0], 0)
    update = bench.store.update_hashes

    async def slow_update(rows: Any) -> None:
        await bench.registry.process_messages([served_row(messages[0], row)])
        await update(rows)

    monkeypatch.setattr(bench.store, "update_hashes", slow_update)
    await bench.sync.sync_missing()
    stored = await bench.store.hash_row(messages[0].hash)
    assert stored is not None
    assert stored.message


@pytest.mark.trio
async def test_stored_messages_are_only_marked(autojump_clock: Any, bench: Bench) -> None:
    messages = await bench.paid(2)
    row = payment(messages[0], 0)
    await bench.registry.process_messages([served_row(messages[0], row)])
    await bench.store.update_hashes([HashRow.found(row.txid, row.height, row.hash, row.value_sat)])
    report = await bench.sync.sync_missing()
    assert report.resolved == 1
    assert (await bench.store.hash_counts()).missing == 1


# ---- lists of peers ----------------------------------------------------------------------------------

MANY = 520


@pytest.mark.trio
async def test_more_than_500_come_from_a_list(autojump_clock: Any, bench: Bench) -> None:
    messages = await bench.paid(MANY)
    bench.peers.add("20.0.0.1")
    bench.list_of("20.0.0.1", messages)
    report = await bench.sync.sync_missing()
    assert report.resolved == MANY
    assert report.streamed[0].handed == MANY
    assert not bench.peers.requests
    assert (await bench.store.counts())["permanents"] == MANY


@pytest.mark.trio
async def test_a_gzipped_list(autojump_clock: Any, bench: Bench) -> None:
    messages = await bench.paid(MANY)
    bench.peers.add("20.0.0.1")
    packed = gzip.compress(b"".join(bench.list_of("20.0.0.1", messages)))
    bench.http.lists["20.0.0.1"] = [packed[n : n + 501] for n in range(0, len(packed), 501)]
    bench.http.encoding["20.0.0.1"] = "gzip"
    assert (await bench.sync.sync_missing()).resolved == MANY


@pytest.mark.trio
async def test_500_are_asked_for_one_by_one(autojump_clock: Any, bench: Bench) -> None:
    await bench.paid(500)
    bench.peers.add("20.0.0.1")
    await bench.sync.sync_missing()
    assert not bench.http.asked


@pytest.mark.trio
async def test_a_stalled_list_is_given_up_and_what_it_gave_counts(autojump_clock: Any, bench: Bench) -> None:
    messages = await bench.paid(MANY)
    bench.peers.add("20.0.0.1")
    pieces = bench.list_of("20.0.0.1", messages)
    bench.http.lists["20.0.0.1"] = [*pieces[: len(pieces) // 2], 1e6]
    report = await bench.sync.sync_missing()
    assert 0 < report.resolved < MANY
    assert "nothing for 20 s" in report.streamed[0].problem


@pytest.mark.trio
async def test_a_trickling_list_ends_with_the_patience_in_all(autojump_clock: Any, bench: Bench) -> None:
    messages = await bench.paid(MANY)
    bench.peers.add("20.0.0.1")
    pieces = bench.list_of("20.0.0.1", messages)
    bench.http.lists["20.0.0.1"] = [part for piece in pieces for part in (piece, 15.0)]
    began_s = trio.current_time()
    report = await bench.sync.sync_missing()
    assert report.streamed[0].problem
    assert trio.current_time() - began_s < 120 + 90


@pytest.mark.trio
async def test_lists_that_are_none_are_given_up(autojump_clock: Any, bench: Bench) -> None:
    messages = await bench.paid(MANY)
    bench.peers.add("20.0.0.1", "20.0.0.2", "20.0.0.3", "20.0.0.4")
    bench.http.lists["20.0.0.1"] = [b"<html>no</html>"]
    bench.http.lists["20.0.0.2"] = [b'{"status":"success","data":[1,2,3]}']
    bench.http.lists["20.0.0.3"] = [b'{"data":[', SourceError("cut off")]
    bench.http.unsynced.add("20.0.0.4")
    for n in range(1, 5):
        bench.peers.give(f"20.0.0.{n}", *messages[:5])
    report = await bench.sync.sync_missing()
    assert len(report.streamed) == 3
    assert all(outcome.problem for outcome in report.streamed)
    assert report.resolved == 5


@pytest.mark.trio
async def test_what_one_peer_lies_about_the_next_may_know(autojump_clock: Any, bench: Bench) -> None:
    messages = await bench.paid(MANY)
    bench.peers.add("20.0.0.1", "20.0.0.2", "20.0.0.3")
    forged = [registration(f"App{n}", n + 10_000_000) for n in range(MANY)]
    true_list = b"".join(bench.list_of("20.0.0.1", messages))
    for ip in ("20.0.0.1", "20.0.0.2", "20.0.0.3"):
        # the right hashes over other contents
        false_list = true_list
        for true, false in zip(messages[:260], forged, strict=False):
            false_list = false_list.replace(true.signature.encode(), false.signature.encode())
        bench.http.lists[ip] = [false_list]
    asked_last = bench.http.lists["20.0.0.3"]
    asked_last[:] = [true_list]
    report = await bench.sync.sync_missing()
    assert report.resolved == MANY


@pytest.mark.trio
async def test_all_peers_lying_leaves_nothing_false_behind(autojump_clock: Any, bench: Bench) -> None:
    messages = await bench.paid(MANY)
    bench.peers.add("20.0.0.1", "20.0.0.2", "20.0.0.3")
    false_list = b"".join(bench.list_of("20.0.0.1", messages)).replace(b'"instances":3', b'"instances":4')
    for ip in ("20.0.0.1", "20.0.0.2", "20.0.0.3"):
        bench.http.lists[ip] = [false_list]
        bench.peers.give(ip, *messages)
        for data in bench.peers.has[ip].values():
            data["timestamp"] += 1
    report = await bench.sync.sync_missing()
    assert report.resolved == 0
    assert report.missing == MANY
    assert (await bench.store.counts())["permanents"] == 0
    assert [outcome.handed for outcome in report.streamed] == [MANY] * 3
    assert any("came and was refused" in sentence for sentence in report.why)


@pytest.mark.trio
async def test_reading_waits_for_judging(
    autojump_clock: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch is judged, one is collected, one may wait: a peer is never read further than that."""
    messages = await bench.paid(MANY)
    bench.peers.add("20.0.0.1")
    bench.list_of("20.0.0.1", messages)
    read: list[int] = []
    monkeypatch.setattr(bench.sync._run._bulk, "_batch_messages", 50)
    batch = bench.registry.batch_run()
    process = batch.process
    seen = 0

    async def slow(rows: Any) -> Any:
        nonlocal seen
        await trio.sleep(10)
        read.append(bench.http.taken_rows - seen)
        seen += len(rows)
        return await process(rows)

    monkeypatch.setattr(batch, "process", slow)
    monkeypatch.setattr(bench.registry, "batch_run", lambda: batch)
    report = await bench.sync.sync_missing()
    assert report.resolved == MANY
    assert max(read) <= 3 * 50


@pytest.mark.trio
async def test_a_store_that_fails_ends_the_run_with_its_error(
    autojump_clock: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = await bench.paid(MANY)
    bench.peers.add("20.0.0.1")
    bench.list_of("20.0.0.1", messages)

    async def fail(*_: Any) -> None:
        raise StoreError("disk full", remedy="make room")

    monkeypatch.setattr(bench.store, "commit", fail)
    with pytest.raises(StoreError, match="disk full"):
        await bench.sync.sync_missing()
    assert not bench.sync.is_running


@pytest.mark.trio
async def test_a_paid_message_that_still_waits_as_an_unpaid_one_is_promoted(
    autojump_clock: Any, bench: Bench
) -> None:
    message = registration("App0")
    await bench.registry.ingest_temporary(message_document(message))
    await bench.store.add_hashes([payment(message, 0)])
    bench.peers.add("20.0.0.1")
    report = await bench.sync.sync_missing()
    assert (report.resolved, report.missing) == (1, 0)
    assert not bench.peers.requests, "nobody is asked for what is here"


@pytest.mark.trio
async def test_the_same_list_is_not_asked_of_a_peer_that_still_remembers_it(
    autojump_clock: Any, bench: Bench
) -> None:
    await bench.paid(2)
    bench.peers.add("20.0.0.1", "20.0.0.2")

    async def asked_by_a_run() -> list[str]:
        bench.peers.requests.clear()
        await bench.sync.sync_missing(force=True)
        return sorted(ip for _, ip, _ in bench.peers.requests if ip.startswith("20.0.0."))

    assert await asked_by_a_run() == ["20.0.0.1", "20.0.0.2"]
    await trio.sleep(300)
    assert await asked_by_a_run() == []
    # a new link: the peer may have been started anew, or never got the first request
    bench.peers.add("20.0.0.2")
    assert await asked_by_a_run() == ["20.0.0.2"]
    # another list is news to everybody
    message = registration("Third")
    await bench.store.add_hashes([payment(message, 3)])
    assert await asked_by_a_run() == ["20.0.0.1", "20.0.0.2"]
    await trio.sleep(600)
    assert await asked_by_a_run() == ["20.0.0.1", "20.0.0.2"]
