"""Commands that ask a running node: which node, what they print, how they fail (docs/cli.md)."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from trionode.cli import events as events_command
from trionode.cli import render
from trionode.cli.main import call

STATUS = {
    "version": "0.1.0",
    "compatibilityVersion": "8.13.1",
    "time": "2025-10-09T08:53:20.123Z",
    "uptimeS": 3725.5,
    "node": {
        "address": "127.1.0.1",
        "publicKey": "04ab",
        "operatorId": None,
        "tier": "CUMULUS",
        "rank": 7,
        "lastConfirmedHeight": 5,
        "dos": {"dosState": 11, "dosMessage": None},
    },
    "chain": {
        "reachable": True,
        "height": 2_100_000,
        "headers": 2_100_001,
        "synced": True,
        "confirmed": True,
        "canSend": False,
        "nodes": 4,
        "lastError": None,
    },
    "peers": {"outbound": 3, "inbound": 2, "outboundIps": 3, "inboundIps": 2, "unstable": 0},
    "orchestrator": {
        "phase": "SYNCING",
        "sinceMs": 1_760_000_000_000,
        "forS": 65.0,
        "waitsFor": ["answers of peers: 2 more about running apps", "the right to send"],
        "dbReady": False,
    },
    "boot": {
        "settled": True,
        "waitsFor": None,
        "action": "reconcile",
        "reason": "away for 60 s, all checks passed",
        "context": {},
        "started": ["shop"],
        "removed": [],
        "failed": [{"what": "db_shop", "problem": "no such image"}],
    },
    "monitor": {
        "network": "NETWORK_LOSS",
        "inSteadyState": True,
        "duty": "look for nodes that left",
        "because": "confirmed",
        "removingApps": False,
        "daemonBehindS": 900.0,
        "lastSweep": {"ageS": 30.0, "suspects": 2, "evicted": ["1.1.1.1"], "kept": [], "skipped": None},
    },
    "registry": {
        "scannedHeight": 2_099_000,
        "isSynced": False,
        "scan": {"phase": "blocks", "done": 5, "total": 10, "perSecond": 12.5, "leftS": 61.0},
        "payments": 4,
        "missing": 2,
        "unreachable": 1,
        "inForce": 3,
        "hashSync": {"phase": "messages", "done": 10, "total": 10, "perSecond": 1.0, "leftS": 0.0},
    },
    "apps": {"names": 2, "locations": 5},
    "events": {"lastId": 3},
    "loopLag": {"lastMs": 0.1, "p99Ms": 1.25, "maxMs": 4.0, "maxEverMs": 9.0, "samples": 100},
    "services": [
        {
            "name": "peers",
            "state": "backoff",
            "essential": True,
            "crashes": 2,
            "readyForS": None,
            "restartInS": 1.0,
            "lastError": "OSError: \x1b[31mboom",
            "lastCrashAgoS": 3.0,
        }
    ],
    "rejected": [{"room": "gossip", "stop": "verify", "reason": "bad_signature", "count": 12}],
    "counters": {},
}
PEER = {
    "ip": "127.3.0.1",
    "port": "16127",
    "direction": "inbound",
    "latency": 3,
    "missedPongs": 0,
    "uptime": 65_000,
    "source": "inbound",
    "badMessages": 1,
    "capabilities": ["peerExchange", "binaryMessages", "future"],
    "messagesReceived": 10,
    "messagesSent": 20,
    "bytesReceived": 1500,
    "bytesSent": 2_500_000,
    "remoteVersion": None,
}
APPS = [
    {
        "name": "shop",
        "instances": 5,
        "hashes": ["ab"],
        "nodes": [f"127.{i}.0.1" for i in range(1, 6)],
        "newest": "2025-10-09T08:53:20.123Z",
    }
]
LOCATION = {
    "name": "Shop",
    "hash": "ab" * 32,
    "ip": "127.1.0.1",
    "broadcastedAt": "2025-10-09T08:53:20.123Z",
    "expireAt": "2025-10-09T10:58:20.123Z",
    "runningSince": "2025-10-09T08:53:19.123Z",
    "osUptime": 1.5,
    "staticIp": True,
}
EXPLAIN = {
    "app": "shop",
    "ip": None,
    "steps": [
        {
            "ip": "127.1.0.1",
            "type": "apprunning",
            "key": "v2",
            "name": "shop",
            "at": "2025-10-09T08:53:20.123Z",
            "expireAt": "2025-10-09T10:58:20.123Z",
            "receivedAt": None,
            "effect": "hidden",
            "rule": "removed",
            "text": "removed by its node, not before this",
            "by": ["127.1.0.1", "appremoved", "appremoved:shop"],
            "listedIp": None,
        },
        {
            "ip": "127.2.0.1",
            "type": "apprunning",
            "key": "v2",
            "name": "shop",
            "at": "2025-10-09T08:53:20.123Z",
            "expireAt": "2025-10-09T10:58:20.123Z",
            "receivedAt": None,
            "effect": "listed",
            "rule": "current",
            "text": "listed",
            "by": None,
            "listedIp": "127.2.0.1",
        },
    ],
    "listed": [{**LOCATION, "ip": "127.2.0.1"}],
}
EVENTS = [
    {"id": 1, "name": "daemon:polled", "data": {"height": 5, "headers": 6}},
    {"id": 2, "name": "peers:added", "data": {"ip": "127.3.0.1", "total": 1}},
    {"id": 3, "name": "boot:settled", "data": {}},
]


class Node(ThreadingHTTPServer):
    """A stand-in node: canned answers by path; `asked` keeps the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Any] = {
            "/trionode/status": STATUS,
            "/flux/peers": [PEER, {**PEER, "direction": "outbound", "remoteVersion": "8.13.0"}],
            "/trionode/apps": APPS,
            "/trionode/explain": EXPLAIN,
            "/trionode/events": EVENTS,
        }
        self.raw: dict[str, bytes] = {}
        self.streams: list[bytes] = []
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Node

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Last-Event-ID")))
        path = urlsplit(self.path).path
        if path == "/flux/eventstream":
            self.send_response(200 if self.server.streams else 404)
            self.end_headers()
            if self.server.streams:
                self.wfile.write(self.server.streams.pop(0))
            return
        body = self.server.raw.get(path)
        if body is None:
            found = self.server.answers.get(path)
            envelope = {"status": "success", "data": found}
            if found is None:
                envelope = {"status": "error", "data": {"message": f"no {path} here"}}
            body = json.dumps(envelope).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Node]:
    with Node() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("TRIONODE_API", server.url)
        monkeypatch.delenv("TRIONODE_CONFIG", raising=False)
        monkeypatch.chdir(tmp_path)
        yield server
        server.shutdown()
        thread.join()


def test_status_for_people(node: Node, capsys: Any) -> None:
    assert call(["status"]) == 0
    out = capsys.readouterr().out
    assert "trionode   0.1.0 (as 8.13.1), up 1 h 2 min" in out
    assert "tier       CUMULUS, rank 7" in out
    assert "height 2100000 of 2100001, synced, confirmed, may not send, 4 nodes listed" in out
    assert "3 out (3 addresses), 2 in (2 addresses)" in out
    assert "p99 1.2 ms, worst 4.0 ms" in out
    assert "phase      SYNCING for 1 min 5 s" in out
    assert "waits for  answers of peers: 2 more about running apps" in out
    assert "           the right to send" in out
    assert "penalty    11: no message" in out
    assert "boot       apps started again: away for 60 s, all checks passed" in out
    assert "           db_shop: no such image" in out
    assert "network    network loss" in out
    assert "daemon     behind for 15 min" in out
    assert "last sweep 2 not listed, 1 evicted, 30 s ago" in out
    assert "registry   3 specifications in force, read to block 2099000, 2 of 4 messages missing" in out
    assert "1 of them given up" in out
    assert "reading    5 of 10 blocks, 12.5 a second, 1 min 1 s left" in out
    assert "fetching" not in out, "that is done"
    assert "peers    backoff  essential" in out
    assert "12  gossip  verify  bad_signature" in out
    assert "\x1b" not in out, "control characters of others never reach the terminal"


def test_status_says_what_is_not_in_order(node: Node, capsys: Any) -> None:
    monitor = {**STATUS["monitor"], "inSteadyState": False, "duty": "remove all apps", "because": "penalty"}
    node.answers["/trionode/status"] = {
        **STATUS,
        "node": {
            **STATUS["node"],
            "dosSources": {"peers": 0.13},
            "dos": {"dosState": 0.13, "dosMessage": None},
        },
        "boot": {**STATUS["boot"], "settled": False, "action": None, "waitsFor": "data"},
        "monitor": {
            **monitor,
            "daemonBehindS": None,
            "lastSweep": {**STATUS["monitor"]["lastSweep"], "skipped": "the own network is not sound"},
        },
        "registry": {**STATUS["registry"], "scannedHeight": None, "payments": 0},
    }
    assert call(["status"]) == 0
    out = capsys.readouterr().out
    assert "penalty    0.13: from peers 0.13" in out
    assert "boot       decision waits for the app data" in out
    assert "network    network loss, not long enough connected to judge" in out
    assert "monitor    no apps here: penalty" in out
    assert "last sweep skipped: the own network is not sound" in out
    assert "registry" not in out


def test_status_of_a_node_that_knows_nothing_yet(node: Node, capsys: Any) -> None:
    node.answers["/trionode/status"] = {
        **STATUS,
        "node": {**STATUS["node"], "address": None, "tier": None, "dos": {"dosState": 0, "dosMessage": None}},
        "chain": {**STATUS["chain"], "reachable": False, "lastError": "[ECONNREFUSED] nobody there"},
        "loopLag": None,
        "services": [],
        "rejected": [],
    }
    assert call(["status"]) == 0
    out = capsys.readouterr().out
    assert "daemon does not answer: [ECONNREFUSED] nobody there" in out
    assert "address    unknown" in out
    assert "penalty" not in out
    assert "rejected" not in out


@pytest.mark.parametrize("command", ["status", "peers"])
def test_watching_goes_on_until_interrupted(
    node: Node, capsys: Any, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    # Not `time.sleep` itself: other threads of this process may sleep meanwhile.
    monkeypatch.setattr(render, "time", SimpleNamespace(sleep=sleep))
    assert call([command, "--watch", "--json"]) == 130
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert len({json.dumps(json.loads(line)) for line in lines}) == 1
    assert pauses == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("arguments", [["status"], ["peers"], ["apps"], ["explain", "shop"]])
def test_tables_on_a_terminal(
    node: Node, capsys: Any, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    node.answers["/trionode/apps"] = [{**APPS[0], "name": "[bold]shop"}]
    assert call(arguments) == 0
    out = capsys.readouterr().out
    assert "─" in out
    if arguments == ["apps"]:
        assert "[bold]shop" in out, "names are not markup"


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (["status"], "/trionode/status"),
        (["apps"], "/trionode/apps"),
        (["explain", "shop"], "/trionode/explain"),
    ],
)
def test_json_is_the_answer_itself(node: Node, capsys: Any, arguments: list[str], path: str) -> None:
    assert call([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == node.answers[path]


def test_peers(node: Node, capsys: Any) -> None:
    assert call(["peers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 outbound, 1 inbound"
    assert lines[2].split() == [
        *("127.3.0.1:16127", "out", "3", "0", "1", "min", "5", "s", "inbound", "8.13.0"),
        *("10", "/", "1.5", "KB", "20", "/", "2.5", "MB", "1", "?BX"),
    ]
    assert " in " in lines[3]
    assert call(["peers", "--json"]) == 0
    assert [row["direction"] for row in json.loads(capsys.readouterr().out)] == ["outbound", "inbound"]


def test_apps_and_one_app(node: Node, capsys: Any) -> None:
    assert call(["apps"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("1 apps\n")
    assert "127.1.0.1 127.2.0.1 127.3.0.1 127.4.0.1 and 1 more" in out
    node.answers["/trionode/apps"] = [LOCATION]
    assert call(["apps", "shop & co"]) == 0
    assert node.asked[-1][0] == "/trionode/apps?name=shop+%26+co"
    assert "127.1.0.1  Shop  abababababab  2025-10-09T08:53:19.123Z" in capsys.readouterr().out
    node.answers["/trionode/apps"] = []
    assert call(["apps", "none"]) == 0
    assert capsys.readouterr().out == "0 instances of none\n"


def test_explain(node: Node, capsys: Any) -> None:
    assert call(["explain", "shop"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("shop is listed at 127.2.0.1\n\n127.1.0.1\n")
    assert "announced  shop  removed by its node, not before this (by: removed)" in out
    assert "+  2025-10-09T08:53:20.123Z  announced  shop  listed" in out
    node.answers["/trionode/explain"] = {"app": "x", "ip": "127.1.0.1:16137", "steps": [], "listed": []}
    assert call(["explain", "x", "127.1.0.1:16137"]) == 0
    assert node.asked[-1][0] == "/trionode/explain?app=x&ip=127.1.0.1%3A16137"
    assert "x is not listed at 127.1.0.1:16137" in capsys.readouterr().out


def test_kept_events(node: Node, capsys: Any) -> None:
    assert call(["events", "--since", "7", "--name", "peers:", "--name", "boot"]) == 0
    assert node.asked[-1][0] == "/trionode/events?since=7"
    assert capsys.readouterr().out.splitlines() == [
        '     2  peers:added              ip="127.3.0.1" total=1',
        "     3  boot:settled",
    ]
    assert call(["events", "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == EVENTS


def record(number: int, name: str = "n") -> bytes:
    return f"event: {name}\ndata: {{}}\nid: {number}\n\n".encode()


def test_followed_events_go_on_after_a_break(
    node: Node, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_command, "RECONNECT_PAUSE_S", 0.0)
    monkeypatch.setattr(events_command, "RECONNECT_TRIES", 2)
    gap = b'event: stream:gap\ndata: {"lost":4}\n\n'
    node.streams = [record(1) + b": keepalive\n\n" + record(2), gap + record(3)]
    assert call(["events", "--follow", "--json", "--name", "n"]) == 1, "the third stream is a 404"
    captured = capsys.readouterr()
    assert [json.loads(line)["id"] for line in captured.out.splitlines()] == [1, 2, None, 3]
    asked = [last for path, last in node.asked if path == "/flux/eventstream"]
    assert asked == ["0", "2", "3"]
    assert "api.event_stream = true" in captured.err


def test_following_a_restarted_node_begins_anew(
    node: Node, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_command, "RECONNECT_PAUSE_S", 0.0)
    node.streams = [record(900), record(1)]
    assert call(["events", "--follow", "--json"]) == 1
    captured = capsys.readouterr()
    assert [json.loads(line)["id"] for line in captured.out.splitlines()] == [900, 1]
    assert "the node was restarted" in captured.err
    assert [last for path, last in node.asked if path == "/flux/eventstream"] == ["0", "0", "1"]


def test_nobody_there_is_exit_5_and_one_line(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["status"], ["peers"], ["apps"], ["events"], ["events", "--follow"], ["explain", "x"]):
        assert call([*arguments, "--api", "http://127.0.0.1:1"]) == 5
        captured = capsys.readouterr()
        assert captured.out == ""
        assert len(captured.err.splitlines()) == 1
        assert "http://127.0.0.1:1" in captured.err
        assert "trionode run" in captured.err


def test_a_refusing_node_is_exit_1(node: Node, capsys: Any) -> None:
    node.answers.clear()
    assert call(["status"]) == 1
    assert "no /trionode/status here" in capsys.readouterr().err


@pytest.mark.parametrize("body", [b"hello", b"[]", b'{"status":1}', b"\xff"])
def test_something_else_listens_there(node: Node, capsys: Any, body: bytes) -> None:
    node.raw["/trionode/status"] = body
    assert call(["status"]) == 5
    assert "check which program listens there" in capsys.readouterr().err


def test_the_commands_stay_light() -> None:
    program = (
        "import sys, trionode.cli.main as main\n"
        "main.call(['status', '--api', 'http://127.0.0.1:1'])\n"
        "heavy = {'trio', 'quart', 'hypercorn', 'structlog', 'rich', 'asyncio', 'aiodocker', 'pymongo'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
