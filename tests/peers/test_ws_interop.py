"""Interoperation with the `ws` package of npm, with the options existing nodes use (wire.md §1).

Needs node and npm, and installs `ws` into a temporary folder; skips with the reason otherwise.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from trionode.config.tree import PeerSettings
from trionode.peers.link import CAPABILITIES, Hello, Link, LinkClosed
from trionode.peers.ws import WsTransport
from trionode.peers.wsstream import read_head

pytestmark = pytest.mark.process

HOST = "127.0.0.1"
OURS = Hello(capabilities=frozenset(CAPABILITIES), version="8.13.1", uptime_s=3, clock_offset_ms=-7)
MESSAGES: list[str | bytes] = ["short", "x" * 127, "é" * 500, b"\x01" + bytes(200), "", "long" * 50_000]
PATIENT = PeerSettings(handshake_timeout_s=60.0, close_timeout_s=60.0, send_timeout_s=60.0)
OPTIONS = """
const WebSocket = require('ws');
const deflate = {
  zlibDeflateOptions: {chunkSize: 1024, memLevel: 9, level: 9}, zlibInflateOptions: {chunkSize: 10240},
  clientNoContextTakeover: true, serverNoContextTakeover: true, threshold: 128,
};
const say = (...items) => console.log(JSON.stringify(items));
function watch(socket, headers) {
  say('open', headers['x-flux-version'], headers['x-flux-capabilities'], socket.extensions);
  socket.on('message', (data, binary) => socket.send(data, {binary}));
  socket.on('pong', (data) => say('pong', data.toString()));
  socket.on('close', (code, reason) => { say('close', code, reason.toString()); process.exit(0); });
  socket.ping('are you there');
}
"""
SERVER = """
const server = new WebSocket.Server({host: '127.0.0.1', port: 0, perMessageDeflate: deflate});
server.on('headers', (headers) => headers.push('X-Flux-Version: 8.13.0'));
server.on('listening', () => say('port', server.address().port));
server.on('connection', (socket, request) => { say('path', request.url); watch(socket, request.headers); });
"""
CLIENT = """
const socket = new WebSocket(process.argv[2], {
  headers: {'X-Flux-Version': '8.13.0', 'X-Flux-Capabilities': 'peerExchange'},
  perMessageDeflate: Object.assign({serverMaxWindowBits: 15, clientMaxWindowBits: 15}, deflate)});
let answer = {};
socket.on('upgrade', (response) => { answer = response.headers; });
socket.on('open', () => watch(socket, answer));
socket.on('error', (error) => { say('error', String(error)); process.exit(1); });
"""


@pytest.fixture(scope="module")
def ws_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `require('ws')` works."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node or npm is not installed")
    folder = tmp_path_factory.mktemp("npm")
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-save", "ws@8"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=90, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm could not install ws within 90 s")
    if done.returncode != 0:
        pytest.skip(f"npm could not install ws: {done.stderr.strip()[-200:]}")
    (folder / "server.js").write_text(OPTIONS + SERVER)
    (folder / "client.js").write_text(OPTIONS + CLIENT)
    return folder


class Node:
    """A running script; `said` gives its next line."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._buffer = b""

    async def said(self) -> list[object]:
        assert self._process.stdout is not None
        with trio.fail_after(60):
            while b"\n" not in self._buffer:
                chunk = await self._process.stdout.receive_some()
                assert chunk, "the script ended early"
                self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        words: list[object] = json.loads(line)
        return words


@asynccontextmanager
async def script(folder: Path, *command: str) -> AsyncIterator[Node]:
    process = await trio.lowlevel.open_process(["node", *command], cwd=folder, stdout=subprocess.PIPE)
    try:
        yield Node(process)
    finally:
        process.kill()
        await process.wait()
        assert process.stdout is not None
        await process.stdout.aclose()


async def converse(link: Link, node: Node, transport: WsTransport) -> None:
    """Echoes of everything, pings both ways, and our close code."""
    for message in MESSAGES:
        await link.send(transport.prepare(message))
        assert await link.receive() == message
    with trio.fail_after(60):
        await link.ping()
    assert await node.said() == ["pong", "are you there"]
    await link.close(4001, "Peer already connected")
    assert await node.said() == ["close", 4001, "Peer already connected"]
    with pytest.raises(LinkClosed):
        await link.receive()


@pytest.mark.trio
@pytest.mark.parametrize("ephemeral", [False, True])
async def test_we_dial_an_existing_node(ws_folder: Path, ephemeral: bool) -> None:
    transport = WsTransport(PATIENT)
    async with script(ws_folder, "server.js") as node:
        port = (await node.said())[1]
        assert isinstance(port, int)
        async with transport.dial(HOST, port, OURS, own_port=16137, ephemeral=ephemeral) as link:
            assert link.remote_hello == Hello(version="8.13.0")
            assert await node.said() == ["path", "/ws/flux/16137"]
            said = await node.said()
            assert said == ["open", "8.13.1", ",".join(CAPABILITIES), "permessage-deflate"]
            await converse(link, node, transport)
            # 201 kB of text went out and came back
            assert link.bytes_sent < 20_000
            assert link.bytes_received < 20_000


@pytest.mark.trio
async def test_an_existing_node_dials_us(ws_folder: Path) -> None:
    transport = WsTransport(PATIENT)
    [listener] = await trio.open_tcp_listeners(0, host=HOST)
    async with listener:
        url = f"ws://{HOST}:{listener.socket.getsockname()[1]}/ws/flux/16127"
        async with script(ws_folder, "client.js", url) as node:
            stream = await listener.accept()
            async with stream:
                head, rest = await read_head(stream, 16384)
                request = transport.inbound(stream, head, rest)
                assert request.dial_port == "16127"
                assert request.hello == Hello(capabilities=frozenset({"peerExchange"}), version="8.13.0")
                async with request.accept(OURS) as link:
                    said = await node.said()
                    assert said == ["open", "8.13.1", ",".join(CAPABILITIES), "permessage-deflate"]
                    await converse(link, node, transport)
