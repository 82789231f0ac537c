"""Commands about the registry: apps list, show, history, price; hashes; explorer; verify (docs/cli.md)."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from trionode.cli.main import call
from trionode.devnet.registering import specification
from trionode.registry.messages import app_message, message_document, signed_text
from trionode.wire.jsjson import stringify
from trionode.wire.keys import NodeKey

KEY = NodeKey.generate(random.Random(9), compressed=True)
ROW = {
    "name": "shop",
    "version": 8,
    "owner": "1Owner",
    "instances": 3,
    "locations": 2,
    "hash": "ab" * 32,
    "height": 2_100_000,
    "endHeight": 2_188_000,
}
SPEC = specification("shop", KEY.address)
ANSWERS: dict[str, Any] = {
    "/trionode/apps": [],
    "/trionode/registered": [ROW],
    "/apps/appspecifications": {**SPEC, "hash": "ab" * 32, "height": 2_100_000},
    "/trionode/history": [
        {
            "type": "fluxappregister",
            "appSpecifications": SPEC,
            "hash": "ab" * 32,
            "txid": "cd" * 32,
            "height": 2_100_000,
            "valueSat": 250_000_000,
        }
    ],
    "/apps/calculateprice": {"usd": 1.5, "flux": 2.4, "fluxDiscount": 5},
    "/trionode/registry": {
        "rows": {"hashes": 4, "permanents": 3, "temporaries": 1, "current": 2, "chain_messages": 0},
        "hashes": {
            "total": 4,
            "resolved": 3,
            "missing": 1,
            "unreachable": 0,
            "nextRetryHeight": 2_100_100,
            "oldestMissingHeight": 2_100_000,
        },
        "chain": {"height": 2_100_001, "synced": True},
        "sync": {
            "running": True,
            "ready": False,
            "left": 1,
            "progress": {"phase": "messages", "done": 3, "total": 4, "perSecond": 2.5, "leftS": 61.0},
            "lastError": "no peers",
        },
    },
    "/trionode/missinghashes": {
        "total": 1,
        "rows": [
            {
                "txid": "t",
                "height": 2_100_000,
                "hash": "ef" * 32,
                "value": 200_000_000,
                "message": False,
                "syncAttempts": 2,
                "nextRetryHeight": 2_100_500,
                "refused": "the hash does not fit.",
            }
        ],
    },
    "/trionode/explorer": {
        "scannedHeight": 1_000_000,
        "tipHeight": 2_100_000,
        "isSynced": False,
        "paused": False,
        "progress": {"phase": "scan", "done": 5, "total": 10, "perSecond": 12.5, "leftS": 61.0},
        "lastError": "[-28] warming up",
    },
    "/id/emergencyphrase": "1700000000000phrasephrasephrasephrasephrasephrase",
    "/id/verifylogin": {"message": "Successfully logged in"},
    "/explorer/rescan": {"message": "Explorer rescan from blockheight 5 initiated"},
}


class Node(ThreadingHTTPServer):
    """Canned answers; `asked` keeps method, target, body and session of the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = dict(ANSWERS)
        self.asked: list[tuple[str, str, Any, str | None]] = []


class Handler(BaseHTTPRequestHandler):
    server: Node

    def do_GET(self) -> None:
        self._answer("GET", None)

    def do_POST(self) -> None:
        self._answer("POST", json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, method: str, body: Any) -> None:
        self.server.asked.append((method, self.path, body, self.headers.get("zelidauth")))
        found = self.server.answers.get(urlsplit(self.path).path)
        envelope = {"status": "success", "data": found}
        if found is None:
            envelope = {"status": "error", "data": {"message": "not here"}}
        content = json.dumps(envelope).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Node]:
    with Node() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("TRIONODE_API", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.delenv("TRIONODE_CONFIG", raising=False)
        monkeypatch.chdir(tmp_path)
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("words", "target"),
    [
        (["apps"], "/trionode/apps"),
        (["apps", "--json"], "/trionode/apps"),
        (["apps", "shop"], "/trionode/apps?name=shop"),
        (["apps", "shop", "--json"], "/trionode/apps?name=shop"),
        (["apps", "running", "list"], "/trionode/apps?name=list"),
        (["apps", "list"], "/trionode/registered"),
        (["apps", "list", "--owner", "1Owner"], "/trionode/registered?owner=1Owner"),
        (["apps", "history", "shop"], "/trionode/history?name=shop"),
    ],
)
def test_what_is_asked(node: Node, words: list[str], target: str) -> None:
    assert call(words) == 0
    assert node.asked[0][:2] == ("GET", target)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["apps", "list"], ["1 registered apps", "2100000  2188000"]),
        (["apps", "show", "shop"], ["ends at block 2188000", "2 running of 3", "library/nginx:1.27"]),
        (["apps", "history", "shop"], ["1 messages of shop", "2.5"]),
        (["apps", "price", "shop"], ["1.5", "2.4 (5 % less than in dollars)"]),
        (
            ["hashes"],
            [
                "4, 3 with their message",
                "again from block 2100100",
                "running, 1",
                "3 of 4, 2.5 a second",
                "no peers",
            ],
        ),
        (["hashes", "--missing"], ["1 payments", "2100500", "the hash does not fit."]),
        (
            ["explorer", "status"],
            ["block 1000000 of 2100000, reading", "5 of 10, 12.5 a second, 1 min 1 s left", "warming up"],
        ),
    ],
)
def test_for_people(node: Node, capsys: Any, words: list[str], said: list[str]) -> None:
    assert call(words) == 0
    out = capsys.readouterr().out
    assert all(text in out for text in said), out


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["apps", "list"], "/trionode/registered"),
        (["apps", "show", "shop"], "/apps/appspecifications"),
        (["apps", "history", "shop"], "/trionode/history"),
        (["apps", "price", "shop"], "/apps/calculateprice"),
        (["hashes"], "/trionode/registry"),
        (["hashes", "--missing"], "/trionode/missinghashes"),
        (["explorer", "status"], "/trionode/explorer"),
    ],
)
def test_as_json(node: Node, capsys: Any, words: list[str], path: str) -> None:
    assert call([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == ANSWERS[path]


def test_an_app_that_is_not_in_force(node: Node, capsys: Any) -> None:
    node.answers["/trionode/registered"] = []
    assert call(["apps", "show", "ghost"]) == 1
    assert "trionode apps history ghost" in capsys.readouterr().err


def test_the_price_of_a_file(node: Node, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "shop.json").write_text(json.dumps(SPEC), "utf-8")
    assert call(["apps", "price", "shop.json"]) == 0
    assert node.asked == [("POST", "/apps/calculateprice", SPEC, None)]
    (tmp_path / "bad.json").write_text("{", "utf-8")
    assert call(["apps", "price", "bad.json"]) == 1
    assert "not JSON" in capsys.readouterr().err


def test_rescan_needs_the_operator(node: Node, capsys: Any) -> None:
    assert call(["explorer", "rescan", "5"]) == 1
    assert "--key FILE" in capsys.readouterr().err
    assert node.asked == []


def test_rescan_with_a_session(node: Node, capsys: Any) -> None:
    assert call(["explorer", "rescan", "5", "--apps", "--zelidauth", "zelid=1"]) == 0
    assert node.asked == [("GET", "/explorer/rescan?height=5&rescanapps=true", None, "zelid=1")]
    assert "initiated" in capsys.readouterr().out


def test_rescan_with_a_key(node: Node, tmp_path: Path) -> None:
    (tmp_path / "operator.key").write_text(KEY.wif + "\n", "ascii")
    assert call(["explorer", "rescan", "5", "--key", "operator.key"]) == 0
    session = node.asked[1][2]
    assert session["zelid"] == KEY.address
    assert session["signature"] == KEY.sign(ANSWERS["/id/emergencyphrase"])
    sent = {name: values[0] for name, values in parse_qs(node.asked[2][3]).items()}
    assert sent == session


def test_a_key_that_is_none(node: Node, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "operator.key").write_text("nonsense", "ascii")
    assert call(["explorer", "rescan", "5", "--key", "operator.key"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


# ---- verify --------------------------------------------------------------------------------------------


def message() -> dict[str, Any]:
    timestamp_ms = 1_760_000_000_000
    signature = KEY.sign(signed_text("fluxappregister", 1, stringify(SPEC), timestamp_ms))
    return message_document(app_message("fluxappregister", 1, SPEC, timestamp_ms, signature))


def test_verify_a_right_message(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("message.json").write_text(json.dumps(message()), "utf-8")
    assert call(["verify", "message.json", "--height", "2100000"]) == 0
    out = capsys.readouterr().out
    assert "shop: accepted" in out
    assert "1 messages, 0 refused" in out
    assert call(["verify", "message.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["accepted"] is True


def test_verify_a_wrong_message(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = {**message(), "timestamp": 1_760_000_000_001}
    Path("messages.json").write_text(json.dumps({"status": "success", "data": [message(), wrong]}), "utf-8")
    assert call(["verify", "messages.json"]) == 1
    out = capsys.readouterr().out
    assert "shop: REFUSED" in out
    assert "- hash" in out
    assert "2 messages, 1 refused" in out


@pytest.mark.parametrize("text", ["", "{", "\xff"])
def test_verify_what_is_no_json(tmp_path: Path, monkeypatch: Any, capsys: Any, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("message.json").write_bytes(text.encode("latin-1"))
    assert call(["verify", "message.json"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert call(["verify", "absent.json"]) == 1
