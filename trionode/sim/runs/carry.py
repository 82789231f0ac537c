"""Carries a plan out: the world it describes, its troubles and liars, and what must hold in calm."""

from __future__ import annotations

import msgspec
import trio

from trionode.appstate.windows import Windows
from trionode.config.tree import Settings
from trionode.sim.node import SimNode
from trionode.sim.runs.census import too_much
from trionode.sim.runs.goodbyes import Goodbyes
from trionode.sim.runs.guards import ReadyGuards
from trionode.sim.runs.honest import DELIVERY_S, Honest, Said
from trionode.sim.runs.liars import Liar
from trionode.sim.runs.plan import RunPlan, Skew
from trionode.sim.runs.troubles import Troubles
from trionode.sim.scenario import Report, Scenario, ScenarioError, run_scenario
from trionode.sim.world import World, WorldPlan, app

REJOIN_S = 300.0
"""So long after the faults every node has links again: two rounds of discovery that failed at first."""
MARGIN_S = 30.0


def settings_of(plan: RunPlan) -> Settings:
    """Settings of every node of a run."""
    scale = plan.time_scale
    production = Settings()
    chain, sync, monitors = production.chain, production.state_sync, production.monitors
    enough = max(2, min(production.peers.threshold_reached, plan.outbound + 1))
    return Settings(
        peers=msgspec.structs.replace(
            production.peers,
            min_outbound=plan.outbound,
            min_unique_outbound_ips=plan.outbound,
            random_outbound=plan.outbound + 2,
            random_outbound_ips=plan.outbound + 2,
            random_inbound=plan.outbound + 2,
            random_inbound_ips=plan.outbound,
            # With a few nodes the random walk finds nobody new; a hundred draws cost as much as all else.
            random_draws=20,
            threshold_reached=enough,
            threshold_below=max(1, enough // 3),
        ),
        appstate=msgspec.structs.replace(production.appstate, time_scale=scale),
        chain=msgspec.structs.replace(
            chain,
            confirmation_stale_s=chain.confirmation_stale_s * scale,
            confirmation_expired_s=chain.confirmation_expired_s * scale,
        ),
        explorer=msgspec.structs.replace(production.explorer, tip_interval_s=15),
        state_sync=msgspec.structs.replace(
            sync,
            min_peer_uptime_s=60,
            serve_interval_s=sync.serve_interval_s * scale,
            ready_after_blocks=max(3, round(sync.ready_after_blocks * scale / 4)),
        ),
        monitors=msgspec.structs.replace(
            monitors,
            node_interval_s=monitors.node_interval_s * scale,
            node_removal_spacing_s=monitors.node_removal_spacing_s * scale,
            dos_recovery_s=monitors.dos_recovery_s * scale,
            confirmation_loss_s=monitors.confirmation_loss_s * scale,
        ),
    )


def calm_s(plan: RunPlan) -> float:
    """How long calm lasts: until every record from before it has expired by every clock.

    A record lives longer where the clock is behind that of its author.
    """
    jumps_ms = [step.skew_ms for step in plan.steps if isinstance(step, Skew)]
    skews_ms = [*(plan.skew_ms(node) for node in range(plan.nodes)), *jumps_ms]
    apart_s = (max(skews_ms) - min(skews_ms)) / 1000
    appstate = settings_of(plan).appstate
    life_s = appstate.running_expiry_ms / 1000 * plan.time_scale
    return life_s + apart_s + MARGIN_S


class Run:
    """One plan in one world."""

    def __init__(self, plan: RunPlan, world: World) -> None:
        self.plan = plan
        self.world = world
        self.honest = Honest(Windows.from_settings(world.plan.settings.appstate))
        self.troubles = Troubles(world, plan)
        self.liars = [Liar(world, liar) for liar in plan.liars]
        self._deliveries: trio.Nursery | None = None
        world.on_signed.append(self._signed)

    async def story(self) -> None:
        plan, world = self.plan, self.world
        for node in world.nodes:
            node.clock.skew_ms = plan.skew_ms(node.number)
            node.apps.replace(tuple(app(name) for name in plan.apps_of(node.number)))
        for liar in self.liars:
            if liar.plan.listed:
                world.list_host(liar.ip, liar.key)
        async with trio.open_nursery() as nursery:
            self.guards = ReadyGuards(world, nursery)
            goodbyes = Goodbyes(world, nursery)
            self.troubles.on_goodbye = lambda *news: nursery.start_soon(goodbyes.watch, *news)
            for liar in self.liars:
                nursery.start_soon(liar.run)
            nursery.start_soon(self._start_nodes)
            await self.troubles.run()
            nursery.start_soon(self.troubles.late_changes)
            await self._judge_calm(nursery)
            nursery.cancel_scope.cancel(reason="the run is over")

    async def _start_nodes(self) -> None:
        spacing_s = min(0.5, 20 / self.plan.nodes)
        for node in self.world.nodes:
            if node.number not in self.plan.late:
                await self.world.start(node)
                await trio.sleep(spacing_s)

    # --- calm -------------------------------------------------------------------------------

    async def _judge_calm(self, nursery: trio.Nursery) -> None:
        world = self.world
        end_s = world.now_s + calm_s(self.plan)
        await trio.sleep(REJOIN_S)
        self._check_connected()
        self._deliveries = nursery
        await trio.sleep_until(end_s)
        self._deliveries = None
        await self._demand_agreement()
        self._count_everything()

    def _count_everything(self) -> None:
        """At the end no node holds more than it may."""
        for node in self.world.up():
            for found in too_much(node.running, self.plan.nodes + len(self.liars)):
                self.world.violate(node.name, found)

    def _check_connected(self) -> None:
        """Every living node reaches every other over links between honest nodes."""
        living = self._able()
        if not living:
            return
        by_ip = {node.ip: node for node in living}
        reached = {living[0].ip: living[0]}
        todo = [living[0]]
        while todo:
            for peer in todo.pop().running.peers.table:
                neighbour = by_ip.get(peer.ip)
                if neighbour is not None and neighbour.ip not in reached:
                    reached[neighbour.ip] = neighbour
                    todo.append(neighbour)
        lonely = [node.name for node in living if node.ip not in reached]
        if lonely:
            raise ScenarioError(f"{REJOIN_S:.0f} s after the faults {', '.join(lonely)} cannot reach others")

    def _able(self) -> list[SimNode]:
        """Nodes that run and are on the list."""
        return [node for node in self.world.up() if node.number not in self.troubles.unlisted_for_ever]

    def _signed(self, number: int, text: str) -> None:
        said = self.honest.hear(number, text)
        if said is not None and self._deliveries is not None:
            lives = {node.number: node.starts for node in self._able()}
            self._deliveries.start_soon(self._check_delivered, said, lives)

    async def _check_delivered(self, said: Said, lives: dict[int, int]) -> None:
        """What is said in calm reaches everybody who is there."""
        await trio.sleep(DELIVERY_S)
        speaker = self.world.nodes[said.speaker]
        for node in self._able():
            if lives.get(node.number) != node.starts:
                continue
            known_ms = node.running.log.state.event_time(said.key)
            if known_ms is None or known_ms < said.at_ms:
                ip, kind, _ = said.key
                raise ScenarioError(
                    f"{node.name} has not heard within {DELIVERY_S:.0f} s "
                    f"what {speaker.name} ({ip}) said: {kind}"
                )

    def _check_announced(self) -> None:
        """Who has apps and may speak has said so within its interval: silence would agree with anything."""
        expected = {(row[0], row[2]) for row in self.honest.expected(self.world.nodes[0].clock.now_ms())}
        for node in self._able():
            for running in node.apps.apps():
                if (running.name, node.address) not in expected:
                    raise ScenarioError(f"{node.name} has not announced {running.name}, which it runs")

    async def _demand_agreement(self) -> None:
        addresses = [node.address for node in self.world.nodes]
        self._check_announced()
        able = self._able()
        differences: list[str] = []

        def agree() -> bool:
            differences.clear()
            for node in able:
                found = self.honest.difference(node, addresses)
                if found is not None:
                    differences.append(found)
            return not differences

        for _ in range(round(MARGIN_S)):
            if agree():
                return
            await trio.sleep(1)
        raise ScenarioError(f"no agreement at the end of calm: {differences[0]} ({len(differences)} nodes)")


def scenario_of(plan: RunPlan) -> Scenario:
    """The plan as a scenario."""

    async def story(world: World) -> None:
        await Run(plan, world).story()

    return Scenario(
        name="plan",
        summary=plan.because or f"a randomised run of {plan.nodes} nodes",
        story=story,
        plan=WorldPlan(
            nodes=plan.nodes,
            apps_per_node=0,
            conditions=plan.conditions,
            settings=settings_of(plan),
            block_interval_s=plan.block_interval_s,
            tick_ms=5,
        ),
        min_nodes=2,
    )


def carry_out(plan: RunPlan, *, replay: str = "") -> Report:
    """Run a plan to its end. Raises RunFailed; `replay` is the command its remedy names."""
    return run_scenario(scenario_of(plan), seed=plan.seed, replay=replay)
