"""One node asks another over sockets to knock at its ports: signature, verdict and listeners fit together."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from trionode.api.frontdoor import FrontDoor
from trionode.api.probe import TcpProbe
from trionode.api.routes import availability
from trionode.config.tree import PeerSettings
from trionode.containers.machine.listeners import PortTaken, TcpListeners
from trionode.lifecycle.dos import Knock
from trionode.peers.link import InboundRequest
from trionode.peers.ws import WsTransport
from trionode.sync.source import HttpSource
from trionode.sync.witness import PortWitness, PortWord

pytestmark = [pytest.mark.trio, pytest.mark.process]

WITNESS, ASKER = "127.78.0.21", "127.78.0.22"
PORTS = [18_101, 18_102]
"""Of an address that is this test's alone, and none the system gives to others who ask for any port."""


async def no_peers(_: InboundRequest) -> None:
    return None


async def test_listeners_are_found_and_their_absence_too(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    node.configure("network", allow_private_addresses=True)
    monkeypatch.setattr(availability, "CHECK_TIMEOUT_S", 60.0)
    node.probe.tcp_connects = TcpProbe(WITNESS).tcp_connects
    door = FrontDoor(
        node.context.settings.api,
        host=WITNESS,
        port=0,
        app=node.app,
        transport=WsTransport(PeerSettings()),
        on_peer=no_peers,
        counters=node.counters,
        grace_s=0.3,
    )
    witness = PortWitness(HttpSource(source_ip=ASKER), node.neighbour)
    stranger = PortWitness(HttpSource(source_ip=ASKER), node.person)
    listeners, ports = TcpListeners(ASKER), PORTS

    async def ask(who: PortWitness) -> PortWord:
        return await who.reaches_ports(
            WITNESS, door.port, own_ip=ASKER, own_port=16127, ports=ports, timeout_s=60
        )

    with trio.fail_after(200):
        async with trio.open_nursery() as nursery:
            await nursery.start(door.run)
            assert await ask(witness) == PortWord(Knock.SHUT, ports[0])
            async with listeners.listening(ports[:1]):
                assert await ask(witness) == PortWord(Knock.SHUT, ports[1])
                with pytest.raises(PortTaken, match=str(ports[0])):
                    async with listeners.listening(ports[1:] + ports[:1]):
                        raise AssertionError("the port is taken")
            async with listeners.listening(ports):
                assert await ask(witness) == PortWord(Knock.REACHED)
                assert await ask(stranger) == PortWord(Knock.SILENT)
            assert await ask(witness) == PortWord(Knock.SHUT, ports[0])
            nursery.cancel_scope.cancel()
