"""The announcer under a mock clock: when it speaks, what it says, what it keeps silent about."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trionode.appstate.decision import Decision
from trionode.config.tree import AppStateSettings
from trionode.errors import PeerError
from trionode.hosting.announcer import Announcer, iso_ms
from trionode.hosting.port import FixedApps, RunningApp
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.wire.envelope import Envelope

EPOCH_MS = 1_760_000_000_000
ME = "198.18.1.0"
WEB = RunningApp("web", "aa" * 32, running_since_ms=1_700_000_000_123)
DB = RunningApp("db", "bb" * 32)


class World:
    """Facts, network and log of one node, as the announcer sees them."""

    def __init__(self, apps: tuple[RunningApp, ...] | None, known: tuple[str, ...]) -> None:
        self.bus = EventBus()
        self.counters = Counters()
        self.apps = FixedApps(self.bus, apps)
        self.own_address: str | None = ME
        self.can_send = True
        self.links = 5
        self.start = Gate(is_open=True)
        self.boot_settled = Gate(is_open=True)
        self.send_takes_s = 0.0
        self.broken = False
        self.refusing = False
        self.sent: list[tuple[float, dict[str, Any]]] = []
        self.applied: list[Envelope] = []
        self.clock = VirtualClock(EPOCH_MS)
        self.announcer = Announcer(
            AppStateSettings(),
            self.apps,
            self,
            self,
            self,
            self.bus,
            self.counters,
            self.clock,
            start=self.start,
            boot_settled=self.boot_settled,
            uptime_s=lambda: 12.5,
            links=lambda: self.links,
            known_names=lambda address: known if address == ME else (),
            static_ip=lambda: True,
        )

    def broadcast_own(self, data: dict[str, Any]) -> Envelope:
        if self.broken:
            raise PeerError("no way out")
        self.sent.append((round(trio.current_time(), 3), data))
        return Envelope(version=1, timestamp=EPOCH_MS, pub_key="02", signature="s", data=data, data_text="")

    async def apply_local(self, envelope: Envelope) -> Decision:
        await trio.sleep(self.send_takes_s)
        self.applied.append(envelope)
        return Decision(accepted=not self.refusing, reason="future" if self.refusing else "")

    def set_can_send(self, can_send: bool) -> None:
        self.can_send = can_send
        self.bus.publish("chain:capability", {"capable": can_send})

    def told(self) -> list[tuple[float, str, Any]]:
        """(time, type, names) of everything sent."""
        return [
            (at_s, data["type"], data.get("appName") or [app["name"] for app in data["apps"]])
            for at_s, data in self.sent
        ]


@asynccontextmanager
async def announcing(
    apps: tuple[RunningApp, ...] | None = (WEB,),
    *,
    known: tuple[str, ...] = (),
    **attributes: Any,
) -> AsyncIterator[World]:
    world = World(apps, known)
    for name, value in attributes.items():
        setattr(world, name, value)
    async with trio.open_nursery() as nursery:
        await nursery.start(world.announcer.run)
        await wait_all_tasks_blocked()
        yield world
        nursery.cancel_scope.cancel()


RUNNING, REMOVED = "fluxapprunning", "fluxappremoved"


@pytest.mark.trio
async def test_the_message_field_by_field(autojump_clock: MockClock) -> None:
    async with announcing((WEB, DB)) as world:
        ((_, data),) = world.sent
        assert list(data) == ["type", "version", "apps", "ip", "broadcastedAt", "osUptime", "staticIp"]
        now_ms = EPOCH_MS + round(trio.current_time() * 1000)
        assert data == {
            "type": RUNNING,
            "version": 2,
            "apps": [
                {"name": "web", "hash": "aa" * 32, "runningSince": "2023-11-14T22:13:20.123Z"},
                {"name": "db", "hash": "bb" * 32, "runningSince": iso_ms(now_ms)},
            ],
            "ip": ME,
            "broadcastedAt": now_ms,
            "osUptime": 12.5,
            "staticIp": True,
        }
        assert [list(app) for app in data["apps"]] == [["name", "hash", "runningSince"]] * 2
        assert [envelope.data for envelope in world.applied] == [data]
        (event,) = [event for event in world.bus.replay() if event.name == "app:running"]
        assert event.data == {"apps": data["apps"], "ip": ME}


@pytest.mark.trio
@pytest.mark.parametrize("first", ["start", "boot_settled"])
async def test_it_waits_for_both_gates(first: str, autojump_clock: MockClock) -> None:
    world = World((WEB,), ())
    world.start.close()
    world.boot_settled.close()
    gates = {"start": world.start, "boot_settled": world.boot_settled}
    async with trio.open_nursery() as nursery:
        await nursery.start(world.announcer.run)
        gates.pop(first).open()
        # News from before the start must not make a second round right after the first.
        world.set_can_send(True)
        await trio.sleep(10_000)
        assert world.sent == []
        start_s = trio.current_time()
        for gate in gates.values():
            gate.open()
        await trio.sleep(3599)
        assert world.told() == [(start_s, RUNNING, ["web"])]
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_it_waits_for_the_capability(autojump_clock: MockClock) -> None:
    async with announcing(can_send=False) as world:
        await trio.sleep(10_000)
        assert world.sent == []
        assert world.counters["announcer.skipped"] == 3
        start_s = trio.current_time()
        world.set_can_send(True)
        await trio.sleep(3599)
        assert world.told() == [(start_s, RUNNING, ["web"])]


@pytest.mark.trio
async def test_what_nobody_heard_is_told_again(autojump_clock: MockClock) -> None:
    async with announcing((WEB, DB)) as world:
        world.set_can_send(False)
        world.links = 0
        world.apps.replace((DB,))
        await trio.sleep(300)
        world.set_can_send(True)
        await trio.sleep(10)
        told = [(REMOVED, "web"), (RUNNING, ["db"])]
        assert [entry[1:] for entry in world.told()[1:]] == told
        world.links = 1
        world.bus.publish("peers:added", {"total": 1})
        await trio.sleep(10)
        assert [entry[1:] for entry in world.told()[3:]] == told
        world.bus.publish("peers:added", {"total": 2})
        await trio.sleep(10)
        assert len(world.told()) == 5


@pytest.mark.trio
async def test_an_app_that_came_back_unheard_is_not_removed(autojump_clock: MockClock) -> None:
    async with announcing((WEB, DB)) as world:
        world.links = 0
        world.apps.replace((DB,))
        await trio.sleep(10)
        world.apps.replace((WEB, DB))
        await trio.sleep(10)
        count = len(world.told())
        world.links = 1
        world.bus.publish("peers:added", {"total": 1})
        await trio.sleep(10)
        assert [entry[1:] for entry in world.told()[count:]] == [(RUNNING, ["web", "db"])]


@pytest.mark.trio
async def test_the_interval_counts_from_the_end_of_a_cycle(autojump_clock: MockClock) -> None:
    async with announcing(send_takes_s=100.0) as world:
        await trio.sleep(3 * 3700 - 1)
        assert [at_s for at_s, _ in world.sent] == [0, 3700, 7400]
        since = [data["apps"][0]["runningSince"] for _, data in world.sent]
        assert len(set(since)) == 1


@pytest.mark.trio
@pytest.mark.parametrize(("ahead_s", "follows"), [(60, True), (86_400, False)])
async def test_a_clock_set_back_is_believed_again(
    autojump_clock: MockClock, ahead_s: int, follows: bool
) -> None:
    """Peers refuse what comes from far ahead, so they hold nothing that later stamps must exceed."""
    async with announcing() as world:
        world.clock.skew_ms = ahead_s * 1000
        world.apps.replace((WEB, DB))
        await wait_all_tasks_blocked()
        world.clock.skew_ms = 0
        world.apps.replace((DB,))
        await wait_all_tasks_blocked()
    far, *after = [data["broadcastedAt"] for _, data in world.sent[1:]]
    assert far == EPOCH_MS + ahead_s * 1000
    assert after == [far + 1, far + 2] if follows else after[0] < after[1] <= EPOCH_MS + 1000


@pytest.mark.trio
async def test_an_unknown_start_is_remembered(autojump_clock: MockClock) -> None:
    async with announcing((DB,)) as world:
        await trio.sleep(7300)
        since = {data["apps"][0]["runningSince"] for _, data in world.sent}
        assert since == {iso_ms(EPOCH_MS)}


@pytest.mark.trio
async def test_new_apps_during_a_cycle_make_one_more(autojump_clock: MockClock) -> None:
    async with announcing(send_takes_s=10.0) as world:
        await trio.sleep(2)
        for count in range(1, 5):
            extra = tuple(RunningApp(f"app{n}", "cc" * 32) for n in range(count))
            world.apps.replace((WEB, *extra))
        await trio.sleep(1000)
        assert world.told() == [
            (0, RUNNING, ["web"]),
            (10, RUNNING, ["web", "app0", "app1", "app2", "app3"]),
        ]
        await trio.sleep(10)
        world.apps.replace((WEB, *extra))
        await trio.sleep(1000)
        assert len(world.sent) == 2, "the same list again is no news"


@pytest.mark.trio
async def test_a_changed_hash_is_announced(autojump_clock: MockClock) -> None:
    async with announcing() as world:
        await trio.sleep(5)
        world.apps.replace((RunningApp("web", "dd" * 32),))
        await trio.sleep(1)
        assert world.sent[-1][1]["apps"][0]["hash"] == "dd" * 32


@pytest.mark.trio
async def test_an_app_that_went_is_told_once_and_applied(autojump_clock: MockClock) -> None:
    async with announcing((WEB, DB)) as world:
        await trio.sleep(5)
        world.apps.replace((WEB,))
        await trio.sleep(1)
        assert world.told() == [(0, RUNNING, ["web", "db"]), (5, REMOVED, "db"), (5, RUNNING, ["web"])]
        removed, running = world.sent[1][1], world.sent[2][1]
        assert list(removed.items()) == [
            ("type", REMOVED),
            ("version", 1),
            ("appName", "db"),
            ("ip", ME),
            ("broadcastedAt", EPOCH_MS + 5000),
        ]
        assert running["broadcastedAt"] > removed["broadcastedAt"], "no two messages share a moment"
        assert len(world.applied) == 3
        assert [e.data for e in world.bus.replay() if e.name == "app:removed"] == [{"name": "db"}]


@pytest.mark.trio
async def test_an_app_that_was_stopped_before_it_went_is_told_to_have_gone(
    autojump_clock: MockClock,
) -> None:
    """Its containers go first, then its row: as long as that is there it is only stopped."""
    async with announcing((WEB, DB)) as world:
        await trio.sleep(5)
        names = {"web", "db"}
        world.apps.names = lambda: frozenset(names)  # type: ignore[method-assign]
        world.apps.replace((WEB,))
        await trio.sleep(1)
        assert [kind for _, kind, _ in world.told()] == [RUNNING, RUNNING]
        names.discard("db")
        world.apps.replace((WEB,))
        await trio.sleep(1)
        assert world.told()[2:] == [(6, REMOVED, "db"), (6, RUNNING, ["web"])]


@pytest.mark.trio
async def test_an_app_that_was_stopped_and_runs_again_is_not_told_to_have_gone(
    autojump_clock: MockClock,
) -> None:
    async with announcing((WEB, DB)) as world:
        await trio.sleep(5)
        world.apps.names = lambda: frozenset({"web", "db"})  # type: ignore[method-assign]
        world.apps.replace((WEB,))
        await trio.sleep(1)
        world.apps.replace((WEB, DB))
        await trio.sleep(1)
        assert [kind for _, kind, _ in world.told()] == [RUNNING, RUNNING, RUNNING]


@pytest.mark.trio
async def test_an_empty_list_is_never_announced(autojump_clock: MockClock) -> None:
    async with announcing(()) as world:
        await trio.sleep(10_000)
        assert world.sent == []
        world.apps.replace((WEB,))
        await trio.sleep(1)
        world.apps.replace(())
        await trio.sleep(10_000)
        assert [kind for _, kind, _ in world.told()] == [RUNNING, REMOVED]


@pytest.mark.trio
async def test_apps_from_before_a_restart_are_removed(autojump_clock: MockClock) -> None:
    async with announcing((WEB,), known=("web", "old")) as world:
        await trio.sleep(1)
        assert world.told() == [(0, REMOVED, "old"), (0, RUNNING, ["web"])]


@pytest.mark.trio
async def test_while_the_apps_are_unknown_nothing_is_said(autojump_clock: MockClock) -> None:
    async with announcing(None, known=("web",)) as world:
        await trio.sleep(5000)
        assert world.sent == []
        world.apps.replace((WEB,))
        await trio.sleep(1)
        assert world.told() == [(5000, RUNNING, ["web"])]


@pytest.mark.trio
async def test_regaining_the_capability_announces_at_once(autojump_clock: MockClock) -> None:
    async with announcing() as world:
        await trio.sleep(100)
        world.set_can_send(False)
        await trio.sleep(7000)
        assert len(world.sent) == 1
        assert world.counters["announcer.skipped"] == 1
        start_s = trio.current_time()
        world.set_can_send(True)
        await trio.sleep(1)
        assert world.told()[1:] == [(start_s, RUNNING, ["web"])]


@pytest.mark.trio
async def test_a_new_address_is_announced_as_such(autojump_clock: MockClock) -> None:
    async with announcing() as world:
        await trio.sleep(50)
        world.own_address = "198.18.7.7"
        world.bus.publish("chain:address", {"address": world.own_address})
        await trio.sleep(1)
        assert [data["ip"] for _, data in world.sent] == [ME, "198.18.7.7"]


@pytest.mark.trio
async def test_a_failure_is_counted_and_tried_again_soon(autojump_clock: MockClock) -> None:
    async with announcing(broken=True) as world:
        await trio.sleep(30)
        assert world.counters["announcer.failed"] == 1
        assert world.applied == []
        world.broken = False
        await trio.sleep(31)
        assert world.told() == [(60, RUNNING, ["web"])]


@pytest.mark.trio
async def test_a_message_the_own_log_refuses_is_counted_and_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with announcing(refusing=True) as world:
        await trio.sleep(30)
        assert world.counters["announcer.not_applied.future"] == 1
        assert "refused by the own log" in caplog.text


@pytest.mark.trio
async def test_no_more_apps_than_peers_accept(autojump_clock: MockClock) -> None:
    many = tuple(RunningApp(f"app{n}", "ee" * 32) for n in range(230))
    async with announcing(many) as world:
        await trio.sleep(10)
        world.bus.publish("hosting:appsChanged", {})
        await trio.sleep(10)
        assert [len(data["apps"]) for _, data in world.sent] == [200]


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "1970-01-01T00:00:00.000Z"), (1_700_000_000_007, "2023-11-14T22:13:20.007Z")],
)
def test_dates_are_written_as_javascript_does(ms: int, text: str) -> None:
    assert iso_ms(ms) == text
