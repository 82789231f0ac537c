"""The spawner at scale: many nodes, many apps; each runs as often as it wants, and hardly ever more often.

Facts: docs/spec/lifecycle.md §11. Nodes are READY from the start, as in a network that has been there for
long; apps come in waves. An app may be on one node too many for as long as a round of the spawner and the
announcements of the others take, and no longer.
"""

from __future__ import annotations

from trionode.config.tree import PeerSettings, Settings, StateSyncSettings
from trionode.sim.appspecs import AppPlan
from trionode.sim.scenario import Scenario, ScenarioError
from trionode.sim.scenarios.hosting import CUMULUS, Stage, box_of
from trionode.sim.scenarios.watching import check
from trionode.sim.world import World, WorldPlan

APPS_PER_NODE = 2
LONGEST_S = 24 * 3600.0
LONGEST_EXCESS_S = 420.0
"""One cycle: the wait for collisions, the install, the look afterwards, and the pause between two rounds."""


class Census:
    """Counts containers of apps as they come and go, and remembers how long there were too many."""

    def __init__(self, world: World, plans: list[AppPlan]) -> None:
        self._world = world
        self._wanted = {plan.containers[0]: plan.instances for plan in plans}
        self.counts = dict.fromkeys(self._wanted, 0)
        self._since_s: dict[str, float] = {}
        self.excesses = 0
        self.longest_s = 0.0

    def look(self) -> None:
        """Count everything now."""
        counts = dict.fromkeys(self._wanted, 0)
        for node in self._world.nodes:
            for name in box_of(node).running():
                if name in counts:
                    counts[name] += 1
        now_s = self._world.now_s
        for name, count in counts.items():
            if count > self._wanted[name]:
                if name not in self._since_s:
                    self._since_s[name] = now_s
                    self.excesses += 1
                self.longest_s = max(self.longest_s, now_s - self._since_s[name])
                if now_s - self._since_s[name] > LONGEST_EXCESS_S:
                    raise ScenarioError(f"{name} runs {count} times since {LONGEST_EXCESS_S:g} s")
            else:
                self._since_s.pop(name, None)
        self.counts = counts

    @property
    def missing(self) -> int:
        """Instances that are still to come."""
        return sum(max(0, self._wanted[name] - count) for name, count in self.counts.items())

    @property
    def wrong(self) -> list[str]:
        """Sentences about containers that run too often or too seldom."""
        return [
            f"{name} runs {count} times, {self._wanted[name]} are wanted"
            for name, count in self.counts.items()
            if count != self._wanted[name]
        ]


async def story(world: World) -> None:
    stage = Stage(world)
    rng = world.rng
    count = APPS_PER_NODE * len(world.nodes)
    plans = [AppPlan(name=f"app{number}", instances=rng.choice((3, 3, 3, 4, 5))) for number in range(count)]
    await stage.seed(*plans)
    await stage.ready()
    census = Census(world, plans)
    began_s = world.now_s
    while census.missing:
        await world.sleep(15)
        census.look()
        left_s = began_s + LONGEST_S - world.now_s
        check(left_s > 0, f"{census.missing} instances are missing after {LONGEST_S:g} s")
    world.note(f"complete after {world.now_s - began_s:.0f} s, {census.excesses} times one too many")
    for _ in range(120):
        await world.sleep(30)
        census.look()
    check(not census.wrong, f"an hour later {'; '.join(census.wrong[:5])}")
    await stage.demand_tidy()


SETTINGS = Settings(
    peers=PeerSettings(
        threshold_reached=3,
        threshold_below=1,
        min_outbound=3,
        min_unique_outbound_ips=2,
        min_inbound=1,
        min_unique_inbound_ips=1,
        random_outbound=3,
        random_outbound_ips=3,
        random_inbound=2,
        random_inbound_ips=2,
        random_draws=10,
        ping_interval_s=60,
    ),
    state_sync=StateSyncSettings(ready_after_blocks=10),
)
"""Times of the real network where it is about apps; a thin network that is READY soon."""

CROWD = Scenario(
    name="crowd",
    summary="nodes and twice as many apps: each app runs as often as it wants",
    story=story,
    plan=WorldPlan(
        nodes=100, hardware=CUMULUS, settings=SETTINGS, block_interval_s=30, tick_ms=5, checks=False
    ),
    min_nodes=8,
)
CROWDS = (CROWD,)
