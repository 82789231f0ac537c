"""The daemon stub: a VirtualChain behind three HTTP ports (docs/spec/testnet.md §4.1).

Ports: the chain daemon's RPC, the benchmark daemon's RPC, control. Callers are told apart by their
source ip. Unlike the original stub this one answers batches. Any credentials are accepted unless
`--user`/`--password` are given.

    python -m trionode.sim.stub_server --host 127.0.0.1 --port 16124 --nodes nodes.json
"""

from __future__ import annotations

import argparse
import base64
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio

from trionode.errors import ChainError, StartupError, TrionodeError
from trionode.sim.chain import START_HEIGHT, VirtualChain
from trionode.sim.chainfaults import WRONG_SHAPE, Behaviour, Mode, is_left_out
from trionode.sim.chainnodes import read_nodes
from trionode.sim.chainpayments import SeededPayments, read_hashes
from trionode.sim.minihttp import HANG_UP, HangUp, StubReply, StubRequest, json_reply, serve_stub
from trionode.sim.stub_control import ControlApi

DAEMON_PORT = 16124
BENCH_PORT = 16224
CONTROL_PORT = 18232
GARBAGE = b"<html>502 Bad Gateway</html>\n"


class StubPorts(msgspec.Struct, frozen=True):
    """Where the stub listens; 0 in a request for ports means "any free one"."""

    host: str = "127.0.0.1"
    daemon: int = DAEMON_PORT
    bench: int = BENCH_PORT
    control: int = CONTROL_PORT


class RpcFace:
    """One daemon over HTTP, with the faults the chain prescribes for the caller."""

    def __init__(self, chain: VirtualChain, server: str, credentials: str | None) -> None:
        self._chain = chain
        self._server = server
        token = base64.b64encode((credentials or "").encode()).decode("ascii")
        self._authorization = None if credentials is None else f"Basic {token}"

    async def handle(self, request: StubRequest) -> StubReply | HangUp:
        """Answer one POST; a batch is answered item by item."""
        behaviour = self._chain.behaviour_of(request.source_ip)
        if behaviour.mode is Mode.DOWN:
            return HANG_UP
        if behaviour.mode is Mode.GARBAGE:
            return StubReply(200, GARBAGE, "text/html")
        if behaviour.mode is Mode.SLOW:
            await trio.sleep(behaviour.delay_ms / 1000)
        if self._authorization is not None and request.headers.get("authorization") != self._authorization:
            return StubReply(401)
        if request.method != "POST":
            return StubReply(405)
        try:
            call = msgspec.json.decode(request.body)
        except msgspec.DecodeError as error:
            return json_reply(_failed(None, ChainError(f"Parse error: {error}", rpc_code=-32700)), 500)
        if isinstance(call, list):
            return json_reply(
                [
                    self._answer(item, request.source_ip, behaviour)
                    for index, item in enumerate(call)
                    if not is_left_out(behaviour, index)
                ]
            )
        answer = self._answer(call, request.source_ip, behaviour)
        return json_reply(answer, 500 if answer["error"] else 200)

    def _answer(self, call: Any, ip: str, behaviour: Behaviour) -> dict[str, Any]:
        if not isinstance(call, dict) or not isinstance(call.get("method"), str):
            return _failed(None, ChainError("Invalid request: no method", rpc_code=-32600))
        params = call.get("params")
        try:
            result = self._chain.answer(
                self._server, ip, call["method"].lower(), params if isinstance(params, list) else []
            )
        except ChainError as error:
            return _failed(call.get("id"), error)
        if behaviour.mode is Mode.WRONG:
            result = WRONG_SHAPE
        return {"result": result, "error": None, "id": call.get("id")}


def _failed(request_id: Any, error: ChainError) -> dict[str, Any]:
    return {"result": None, "error": {"code": error.rpc_code, "message": error.message}, "id": request_id}


async def run_stub(
    chain: VirtualChain,
    ports: StubPorts,
    *,
    credentials: str | None = None,
    task_status: trio.TaskStatus[StubPorts] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `chain` until cancelled; `started` gives the ports really bound.

    `credentials` is "user:password" for both RPC ports, None accepts everybody. Raises
    StartupError when a port cannot be bound.
    """
    handlers = (
        RpcFace(chain, "daemon", credentials).handle,
        RpcFace(chain, "bench", credentials).handle,
        ControlApi(chain).handle,
    )
    async with trio.open_nursery() as nursery:
        bound: list[int] = []
        for port, handler in zip((ports.daemon, ports.bench, ports.control), handlers, strict=True):
            try:
                listeners = await trio.open_tcp_listeners(port, host=ports.host)
            except OSError as error:
                raise StartupError(
                    f"the daemon stub cannot listen on {ports.host}:{port}: {error.strerror or error}",
                    remedy="end the program that holds the port or choose another one",
                ) from error
            bound.append(listeners[0].socket.getsockname()[1])
            nursery.start_soon(serve_stub, listeners[0], handler)
        nursery.start_soon(chain.run_ticker)
        task_status.started(StubPorts(ports.host, *bound))


def _payments(arguments: argparse.Namespace) -> SeededPayments | None:
    app_hashes = read_hashes(Path(arguments.app_hashes)) if arguments.app_hashes else None
    count = arguments.apps if app_hashes is None else len(app_hashes)
    if not count:
        return None
    last_height = arguments.apps_until or arguments.height
    return SeededPayments(arguments.seed, count, last_height=last_height, app_hashes=app_hashes)


async def _main(arguments: argparse.Namespace) -> None:
    nodes = read_nodes(Path(arguments.nodes)) if arguments.nodes else []
    chain = VirtualChain(
        nodes,
        height=arguments.height,
        block_interval_ms=arguments.block_interval_ms,
        seeded=_payments(arguments),
        ordinary=arguments.ordinary,
    )
    if arguments.ticker:
        chain.start_ticker()
    ports = StubPorts(arguments.host, arguments.port, arguments.bench_port, arguments.control_port)
    credentials = f"{arguments.user}:{arguments.password}" if arguments.user else None
    async with trio.open_nursery() as nursery:
        bound: StubPorts = await nursery.start(partial(run_stub, chain, ports, credentials=credentials))
        print(msgspec.json.encode({"ready": bound, "nodes": len(nodes)}).decode(), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; prints one JSON line when ready, returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m trionode.sim.stub_server", description="A stand-in for fluxd and fluxbenchd."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=DAEMON_PORT, help="chain daemon RPC port")
    parser.add_argument("--bench-port", type=int, default=BENCH_PORT, help="benchmark daemon RPC port")
    parser.add_argument("--control-port", type=int, default=CONTROL_PORT, help="control port")
    parser.add_argument("--nodes", help="JSON file: list of {ip, pubkey, tier, ...}")
    parser.add_argument("--height", type=int, default=START_HEIGHT, help="height of the first tip")
    parser.add_argument("--block-interval-ms", type=int, default=5000, help="the ticker's pace")
    parser.add_argument("--ticker", action="store_true", help="start the ticker at once")
    parser.add_argument("--apps", type=int, default=0, help="number of app payments made from the seed")
    parser.add_argument("--app-hashes", help="text file: pay for these app hashes, one a line, instead")
    parser.add_argument("--apps-until", type=int, default=0, help="height of the last one; 0: the tip")
    parser.add_argument("--seed", type=int, default=0, help="seed of the app payments")
    parser.add_argument("--ordinary", type=int, default=0, help="other transactions in every block")
    parser.add_argument("--user", default="", help="require this RPC user")
    parser.add_argument("--password", default="", help="and this password")
    exit_code = 0
    try:
        trio.run(_main, parser.parse_args(argv))
    except* KeyboardInterrupt:
        pass  # Ctrl-C is the ordinary way to end the stub
    except* TrionodeError as group:
        exit_code = 1
        for error in _leaves(group):
            print(f"daemon stub: {error.one_line()}", file=sys.stderr)
    return exit_code


def _leaves(group: BaseExceptionGroup[TrionodeError]) -> list[TrionodeError]:
    found: list[TrionodeError] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found


if __name__ == "__main__":
    sys.exit(main())
