"""ChainFacts through real HTTP: the node's clients against the daemon stub on loopback sockets."""

from __future__ import annotations

import pytest
import trio

from trionode.chain.conf import parse_conf
from trionode.chain.facts import ChainFacts
from trionode.chain.rpc import bench_rpc, daemon_rpc
from trionode.config.tree import ChainSettings
from trionode.runtime.bus import EventBus, Subscription
from trionode.runtime.counters import Counters
from trionode.sim.chain import Mode, VirtualChain
from trionode.sim.chainnodes import StubNode
from trionode.sim.stub_server import StubPorts, run_stub

ME, KEY = "127.0.0.21", "02" + "cc" * 32


async def until(events: Subscription, name: str) -> None:
    with trio.fail_after(90):
        while (await events.receive()).name != name:
            pass


@pytest.mark.trio
@pytest.mark.process
async def test_a_node_follows_its_daemons_over_http() -> None:
    chain = VirtualChain([StubNode(ME, KEY), StubNode("127.0.0.22", "02" + "dd" * 32)])
    bus = EventBus()
    async with trio.open_nursery() as nursery:
        ports = await nursery.start(run_stub, chain, StubPorts("127.0.0.1", 0, 0, 0))
        settings = ChainSettings(
            bench_port=ports.bench,
            poll_interval_s=0.05,
            confirmation_poll_interval_s=0.05,
            node_list_min_interval_s=0.1,
            daemon_timeout_s=60.0,
        )
        conf = parse_conf(f"rpcport={ports.daemon}\nrpcuser=fluxtest\nrpcpassword=fluxtest")
        with (
            daemon_rpc(settings, conf, source_ip=ME) as daemon,
            bench_rpc(settings, source_ip=ME) as bench,
            bus.subscribe() as events,
        ):
            facts = ChainFacts(settings, daemon, bench, bus, Counters(), public_key=KEY)
            await nursery.start(facts.run)
            with trio.fail_after(90):
                # Three polls, which do not wait for each other.
                await facts.can_send_gate.wait()
                await facts.daemon_ready_gate.wait()
            assert (facts.own_address, facts.height, len(facts.nodes)) == (ME, chain.height, 2)

            chain.behave(ME, Mode.DOWN)
            await until(events, "daemon:unreachable")
            assert facts.last_error is not None
            assert facts.confirmed, "silence does not take the confirmation away"
            chain.behave(ME, Mode.OK)
            await until(events, "daemon:recovered")

            chain.remove_node("127.0.0.22")
            chain.mine()
            await until(events, "chain:nodes")
            while len(facts.nodes) != 1:
                await until(events, "chain:nodes")
            nursery.cancel_scope.cancel()
