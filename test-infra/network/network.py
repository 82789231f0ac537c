"""Starts, drives and stops a network of node processes (docs/spec/testnet.md §5).

`Network` is plain code, so that one network can serve all tests of a module; `connected()` is entered by
each test and reads the events of all nodes while it lasts.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from network import boot
from network.chain import ChainControl
from network.engineroom import EngineRoom
from network.env import ENGINE_SETTINGS, SETTINGS, TEAM, TIERS, Env, admin_of
from network.http import Caller, Unanswered
from network.namespace import Namespace, NoNamespace
from network.node import LOOK_EVERY_S, PATIENCE, Node, NodeProcess, going_down
from network.processes import Running
from network.stubs import PeerStub, ServicesStub
from trionode.cli.exitcodes import UNREACHABLE
from trionode.devnet import layout as places
from trionode.devnet.layout import BENCH_PORT, CONTROL_PORT, DAEMON_PORT
from trionode.devnet.processes import module_command

STUBS_UP_WITHIN_S = 120.0
ANSWERED_WITHIN_S = 120.0
NODES_PER_OFFSET = 20
NAMESPACE_NEEDED = "NETWORK_NAMESPACE_NEEDED"
"""Set this variable where a real cut is a must: then nothing takes its place."""


BUSY = "another operation is in progress"
"""What a node says that is doing something to an app just then."""


class Connected:
    """The network as one test sees it: `net[3]` is node 3."""

    def __init__(self, network: Network, nursery: trio.Nursery) -> None:
        self._network = network
        self._nursery = nursery
        caller = network.caller
        self.chain = ChainControl(caller, network.layout.stub_ip)
        self.services = ServicesStub(caller, network.services_ip)
        self.stubs = [PeerStub(caller, place.ip) for place in network.stub_places]
        self._nodes = {number: Node(process, caller) for number, process in network.nodes.items()}
        for node in self._nodes.values():
            nursery.start_soon(node.reader.run)

    @property
    def engine(self) -> EngineRoom:
        """The container engine of the engine node, and the image registry beside it."""
        assert self._network.engine is not None, "no node of this network has a container engine"
        return self._network.engine

    async def page(self, ip: str, port: int, within_s: float = 10.0) -> str:
        """What the web server of an app answers, which begins to listen a little after its container runs."""
        with trio.move_on_after(within_s * PATIENCE):
            while True:
                try:
                    answer = await self._network.caller.ask(ip, port, "GET", "/index.html")
                    return answer.body.decode()
                except Unanswered:
                    await trio.sleep(LOOK_EVERY_S)
        raise AssertionError(f"no page at {ip}:{port} within {within_s:g} s")

    async def command(self, node: Node, *words: str, signed: bool = False) -> str:
        """What `trionode WORDS` prints when it is told to ask that node; `signed`: as its operator."""
        return await self._network.command_line(node, *words, *(_key_of(node) if signed else ()))

    async def operate(self, node: Node, *words: str, within_s: float = 60.0) -> str:
        """The same for what is done to apps, as the operator, as soon as nothing else is under way."""
        ended, text = 1, BUSY
        with trio.move_on_after(within_s * PATIENCE):
            while BUSY in text:
                ended, text = await self._network.ended_command(node, *words, *_key_of(node))
        assert ended == 0, (words, ended, text)
        return text

    @property
    def host(self) -> Node:
        """The engine node."""
        return self[self._network.env.engine_node]

    @property
    def real_cut(self) -> bool:
        """False where cut nodes are stopped instead, so that they cannot be asked either."""
        return self._network.namespace is not None

    def __getitem__(self, number: int) -> Node:
        return self._nodes[number]

    @property
    def nodes(self) -> list[Node]:
        """The nodes that run."""
        return [node for node in self._nodes.values() if node.runs]

    def others(self, *nodes: Node) -> list[Node]:
        """The running nodes but these."""
        return [node for node in self.nodes if node not in nodes]

    async def start(self, *numbers: int) -> None:
        """Start nodes that were held back or stopped."""
        async with trio.open_nursery() as nursery:
            for number in numbers:
                nursery.start_soon(self._nodes[number].start)

    async def calm(self) -> None:
        """Undo what an earlier test may have left: cuts, statuses, failures, the list, the ticker."""
        for node in self._nodes.values():
            node.mend()
        await self.chain.confirm()
        await self.chain.mend_rpc()
        await self.chain.ask("POST", "/node-list/reset")
        await self.chain.stop_ticker()

    async def marks(self) -> dict[int, int]:
        """`Node.mark` of every running node, by number."""
        return {node.number: await node.mark() for node in self.nodes}

    async def start_discovery(self, *nodes: Node) -> None:
        """As the team of the network does it; all running nodes when none are given."""
        for node in nodes or self.nodes:
            session = await node.sign_in(TEAM)
            answer = await node.ask("GET", "/flux/startdiscovery", session=session)
            assert answer["status"] == "success", answer

    async def every(self, name: str, /, *, after: dict[int, int], within_s: float, **wanted: Any) -> None:
        """Wait until every node that `after` names has published such an event."""
        async with trio.open_nursery() as nursery:
            for number, bound in after.items():
                node = self._nodes[number]

                async def wait(node: Node = node, bound: int = bound) -> None:
                    await node.event(name, after=bound, within_s=within_s, **wanted)

                nursery.start_soon(wait)


class Network:
    """A network on disk and as processes; `with Network(folder, env) as network`."""

    def __init__(self, folder: Path, env: Env) -> None:
        self.env = env
        self.namespace = _namespace()
        self.caller = Caller(self.namespace)
        self.layout = places.plan(
            folder,
            env.nodes + env.peer_stubs,
            0 if self.namespace is not None else _fallback_offset(),
            lambda number, _: env.apps.get(number, ()),
        )
        self.services_ip = self.layout.stub_ip.replace(".255.1", ".255.2")
        self.stub_places = self.layout.nodes[env.nodes :]
        self.nodes = {
            place.number: NodeProcess(place, self.namespace) for place in self.layout.nodes[: env.nodes]
        }
        self.engine = self._engine_room() if env.engine_node else None
        self._helpers: list[Running] = []
        self._numbers = itertools.count(1)

    def __enter__(self) -> Network:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connected]:
        """The handles of one test; events are read while it lasts."""
        async with trio.open_nursery() as nursery:
            yield Connected(self, nursery)
            nursery.cancel_scope.cancel(reason="the test has ended")

    async def command_line(self, node: Node, *words: str) -> str:
        """What `trionode WORDS` prints when it is told to ask that node, and goes well; for questions only.

        Asked again when no answer came in the time that a person is to wait.
        """
        ended, text = UNREACHABLE, ""
        with trio.move_on_after(ANSWERED_WITHIN_S):
            while ended == UNREACHABLE:
                ended, text = await self.ended_command(node, *words)
        assert ended == 0, (words, ended, text)
        return text

    async def ended_command(self, node: Node, *words: str) -> tuple[int, str]:
        """Its exit code and what it printed, however it ended."""
        log = self.layout.folder / f"cli-{next(self._numbers)}.log"
        command = module_command("trionode", "--config", str(node.place.config), *words)
        ended = await Running(command, log, self.namespace).wait()
        return ended, log.read_text("utf-8")

    def run(self, scenario: Callable[[Connected], Awaitable[None]]) -> None:
        """Run `scenario` on the connected network; for tests that make a network of their own."""

        async def connect() -> None:
            async with self.connected() as net:
                await scenario(net)

        trio.run(connect)

    def _start(self) -> None:
        """Write the files, start the stand-ins, set the world up, start the nodes."""
        env = self.env
        if self.engine is not None:
            self.engine.open()
        places.write(
            self.layout,
            # Keys of a network on the loopback range guard nothing; a seed makes runs alike.
            random.Random(1),
            {**SETTINGS, **self._own_settings(), **env.overrides},
            node_overrides={
                number: {
                    "system.boot_id_file": str(process.place.boot_id),
                    "system.shutdown_marker_files": [str(going_down(process.place))],
                    "system.shutdown_commands": False,
                    "node.operator_id": admin_of(number).address,
                    **self._engine_settings(number),
                    **env.node_overrides.get(number, {}),
                }
                for number, process in self.nodes.items()
            },
            tiers={**TIERS, **env.tiers},
            secure=env.secure,
        )
        for process in self.nodes.values():
            boot.prepare(process.place, env.boot)
        self._start_stubs()
        trio.run(self._set_up)
        for number, process in self.nodes.items():
            if number not in env.held_back:
                process.start()
        trio.run(self._nodes_up)

    def _own_settings(self) -> dict[str, Any]:
        services = f"http://{self.services_ip}:3000"
        others = self.env.nodes - 1
        return {
            # A small network has few links; registering an app asks for this many.
            "peers.min_outbound": max(1, min(4, others // 2)),
            "peers.min_inbound": max(1, min(2, others // 4)),
            "peers.discovery_autostart": self.env.discovery,
            "services.lists_url": services,
            "services.geolocation_url": services,
            "services.stats_url": services,
        }

    def _engine_room(self) -> EngineRoom:
        if self.namespace is None:
            raise NoNamespace("a node with a container engine needs a network namespace, which root can make")
        return EngineRoom(self.namespace, self.layout.folder)

    def _engine_settings(self, number: int) -> dict[str, Any]:
        if self.engine is None or number != self.env.engine_node:
            return {}
        return {**ENGINE_SETTINGS, "hosting.engine_url": self.engine.url}

    def _start_stubs(self) -> None:
        layout = self.layout
        interval_ms = round((self.env.ticker_s or 5.0) * 1000)
        self._helper(
            "daemon-stub",
            "trionode.sim.stub_server",
            *("--host", layout.stub_ip),
            *("--port", str(DAEMON_PORT), "--bench-port", str(BENCH_PORT)),
            *("--control-port", str(CONTROL_PORT)),
            *("--nodes", str(layout.node_list)),
            *("--block-interval-ms", str(interval_ms)),
            *(["--ticker"] if self.env.ticker_s is not None else []),
        )
        self._helper("services-stub", "trionode.sim.stub_services", "--host", self.services_ip)
        for place in self.stub_places:
            self._helper(
                f"peer-stub-{place.number}",
                "trionode.sim.stub_peer",
                *("--host", place.ip, "--key-file", str(place.folder / "node.key")),
            )

    def _helper(self, name: str, module: str, *arguments: str) -> None:
        log = self.layout.folder / f"{name}.log"
        self._helpers.append(Running(module_command(module, *arguments), log, self.namespace))

    async def _set_up(self) -> None:
        """Wait for the stand-ins, then make the world as the nodes are to find it."""
        addresses = [(self.layout.stub_ip, CONTROL_PORT), (self.services_ip, 3001)]
        addresses += [(place.ip, 16128) for place in self.stub_places]
        with trio.fail_after(STUBS_UP_WITHIN_S):
            for ip, port in addresses:
                while True:
                    try:
                        await self.caller.ask(ip, port, "GET", "/health")
                        break
                    except Unanswered:
                        await trio.sleep(LOOK_EVERY_S)
        chain = ChainControl(self.caller, self.layout.stub_ip)
        for number, status in self.env.statuses.items():
            await chain.set_status(self._ip(number), status)
        for number in self.env.rpc_failures:
            await chain.fail_rpc(self._ip(number))

    def _ip(self, number: int) -> str:
        return "all" if number == 0 else self.layout.nodes[number - 1].ip

    async def _nodes_up(self) -> None:
        async with trio.open_nursery() as nursery:
            for process in self.nodes.values():
                if process.runs:
                    nursery.start_soon(Node(process, self.caller).up)

    def close(self) -> None:
        """Stop every process: the nodes by SIGINT, then the stand-ins."""
        running = [process.running for process in self.nodes.values() if process.running is not None]
        for process in self.nodes.values():
            process.mend()
        for one in running:
            one.send_signal(signal.SIGINT)
        for one in running:
            one.finish()
        for helper in self._helpers:
            helper.send_signal(signal.SIGTERM)
        for helper in self._helpers:
            helper.finish()
        if self.engine is not None:
            self.engine.close()
        if self.namespace is not None:
            self.namespace.close()


def _key_of(node: Node) -> tuple[str, str]:
    """The words that let a command sign as the operator of a node."""
    path = node.place.folder / "operator.key"
    path.touch(mode=0o600)
    path.write_text(node.admin.wif + "\n", "ascii")
    return "--key", str(path)


def _namespace() -> Namespace | None:
    try:
        return Namespace()
    except NoNamespace as error:
        if os.environ.get(NAMESPACE_NEEDED):
            raise
        print(f"no network namespace ({error}): a node is cut off by SIGSTOP instead", file=sys.stderr)
        return None


def _fallback_offset() -> int:
    """Test workers that share one loopback range keep apart by their numbers."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    return NODES_PER_OFFSET * (1 + int(worker))
