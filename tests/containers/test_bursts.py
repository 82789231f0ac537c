"""Spare CPU is allowed again at every start, to those that may have it (§13)."""

from __future__ import annotations

import pytest
import trio
from appworld import app, base, part
from hostworld import HostWorld
from trio.testing import MockClock

from trionode.config.tree import ResourceSettings
from trionode.containers.install.bursts import CpuBursts
from trionode.plans.createoptions import BURST_LABEL, burst_us

WEB = "fluxweb_shop"


def test_never_more_than_the_quota_nor_than_the_host_can_spare() -> None:
    assert burst_us(0.5, 7, 100_000) == 50_000
    assert burst_us(4, 7, 100_000) == 300_000
    assert burst_us(8, 7, 100_000) < 0


@pytest.mark.trio
@pytest.mark.parametrize("enabled", [True, False])
async def test_allowed_at_every_start(autojump_clock: MockClock, enabled: bool) -> None:
    world = HostWorld()
    async with world.process() as node, trio.open_nursery() as nursery:
        bursts = CpuBursts(
            ResourceSettings(cpu_burst=enabled),
            engine=world.engine,
            disk=world.disk,
            bus=node.bus,
            counters=node.counters,
        )
        await nursery.start(bursts.run)
        for spec in (base(), app("shop", part("web"))):
            assert (await node.life.actions.install(spec, reason="the test")).ok
        container = world.engine._containers[WEB]
        container.labels = {**container.labels, BURST_LABEL: "true"}
        world.disk.bursts.clear()
        await node.host._refresh()
        world.engine.crash(WEB)
        world.engine.crash("fluxcore_base")
        await trio.sleep(1)
        assert world.state(WEB) == "running"
        assert world.disk.bursts == ({container.id: 50_000} if enabled else {})
        nursery.cancel_scope.cancel()
