"""Commands to containers and apps of a node: what is asked, what is shown, how it fails (docs/cli.md)."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from trionode.cli import exitcodes
from trionode.cli.main import call

PART = {
    "identifier": "web_shop",
    "container": "fluxweb_shop",
    "flags": "",
    "state": "running",
    "status": "Up 5 minutes",
    "image": "library/web:1",
    "id": "ab" * 32,
    "ports": [31000],
    "stoppedOnPurpose": False,
    "held": False,
    "crashes": None,
}
CRASHED = {
    **PART,
    "identifier": "db_shop",
    "state": "exited",
    "status": "Exited (1) \x1b[31m",
    "flags": "g",
    "stoppedOnPurpose": True,
    "crashes": {"count": 3, "last": "2025-10-09T08:53:20.123Z", "startedAgainAt": "2025-10-09T08:58:20.123Z"},
}
OVERVIEW = {
    "engine": {"reachable": True, "version": "24.0.0", "apiVersion": "1.43", "problem": None},
    "operation": {"work": "installation", "app": "mail"},
    "held": ["db_mail", "shop"],
    "heldUntil": {"shop": "2025-10-09T09:53:20.123Z"},
    "apps": [
        {"name": "shop", "hash": "ab", "height": 1, "components": [PART, CRASHED]},
        {"name": "safe", "hash": "cd", "height": 2, "components": []},
    ],
    "leftovers": [{"container": "fluxold_x", "state": "exited", "status": "Exited (0)", "image": "old:1"}],
}
PLAN = [
    {
        "action": "remove_orphan",
        "app": "shop",
        "component": "web_shop",
        "reason": "it is still stopped",
        "when": "2025-10-09T08:53:20.123Z",
        "block": None,
    },
    {
        "action": "remove",
        "app": "mail",
        "component": "",
        "reason": "it has ended",
        "when": None,
        "block": 2_100_044,
    },
    {
        "action": "wait",
        "app": "",
        "component": "node",
        "reason": "the machine goes down",
        "when": None,
        "block": None,
    },
]
STEPS = [
    {"status": "Pulling library/web:1"},
    {"status": "Downloading", "id": "aa", "progressDetail": {"current": 1, "total": 2}},
    {"status": "Downloading", "id": "aa", "progressDetail": {"current": 2, "total": 2}},
    {"status": "Pull complete", "id": "aa"},
]
GOOD = {"status": "success", "data": {"message": "Flux App shop was done"}}
BAD = {"status": "error", "data": {"message": "the volume is in use (at: unmount)"}}
LOG = [
    {"stream": "stdout", "at": "2025-10-09T08:53:20Z", "text": "hello \x07"},
    {"stream": "stderr", "at": "2025-10-09T08:53:21Z", "text": "trouble"},
]


class Node(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, dict[str, str], str | None]] = []
        self.answers: dict[str, Any] = {
            "/trionode/containers": {"status": "success", "data": OVERVIEW},
            "/trionode/containerplan": {"status": "success", "data": PLAN},
            "/apps/applog": {"status": "success", "data": "one\ntwo \x07"},
            "/apps/applogpolling": {"logs": ["T1 one", "T2 two"], "status": "success"},
            "/apps/appinspect": {"status": "success", "data": {"Id": "ab"}},
            "/trionode/apphold": {"status": "success", "data": {"message": "shop is held until 20"}},
            "/trionode/apprelease": {"status": "success", "data": {"message": "shop is no longer held"}},
            "/apps/appstop": {"status": "success", "data": "Flux App shop successfully stopped."},
            "/trionode/applog": [*LOG],
        }
        for path in ("installapplocally", "testappinstall", "appremove", "redeploy", "redeploycomponent"):
            self.answers[f"/apps/{path}"] = [*STEPS, GOOD]


class Handler(BaseHTTPRequestHandler):
    server: Node

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.server.asked.append((parts.path, query, self.headers.get("zelidauth")))
        found = self.server.answers.get(parts.path, BAD)
        # objects of a stream come without separators, and in pieces that mean nothing
        content = (
            "".join(json.dumps(item, ensure_ascii=False) for item in found)
            if isinstance(found, list)
            else json.dumps(found)
        )
        self.send_response(200)
        self.end_headers()
        for at in range(0, len(content), 7):
            self.wfile.write(content[at : at + 7].encode())
            self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Node]:
    with Node() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("TRIONODE_API", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("TRIONODE_ZELIDAUTH", "zelid=1Me")
        monkeypatch.delenv("TRIONODE_CONFIG", raising=False)
        monkeypatch.chdir(tmp_path)
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("words", "path", "query"),
    [
        (["containers", "ls"], "/trionode/containers", {}),
        (["containers", "ls", "shop", "--json"], "/trionode/containers", {"appname": "shop"}),
        (["containers", "plan"], "/trionode/containerplan", {}),
        (["containers", "plan", "shop"], "/trionode/containerplan", {"appname": "shop"}),
        (["containers", "logs", "web_shop"], "/apps/applog", {"appname": "web_shop", "lines": "100"}),
        (["containers", "logs", "w", "-t", "-n", "5"], "/apps/applogpolling", {"appname": "w", "lines": "5"}),
        (["containers", "logs", "w", "-f"], "/trionode/applog", {"appname": "w", "lines": "100"}),
        (["containers", "inspect", "w"], "/apps/appinspect", {"appname": "w"}),
        (["containers", "stop", "shop"], "/apps/appstop", {"appname": "shop"}),
        (
            ["containers", "stop", "shop", "--everywhere"],
            "/apps/appstop",
            {"appname": "shop", "global": "true"},
        ),
        (["containers", "hold", "shop"], "/trionode/apphold", {"appname": "shop", "minutes": "60"}),
        (
            ["containers", "hold", "shop", "--minutes", "5", "--running"],
            "/trionode/apphold",
            {"appname": "shop", "minutes": "5", "running": "true"},
        ),
        (["containers", "release", "shop"], "/trionode/apprelease", {"appname": "shop"}),
        (["install", "shop"], "/apps/installapplocally", {"appname": "shop"}),
        (["install", "shop", "--test"], "/apps/testappinstall", {"appname": "shop"}),
        (["remove", "shop", "--yes"], "/apps/appremove", {"appname": "shop"}),
        (["remove", "shop", "-y", "--force"], "/apps/appremove", {"appname": "shop", "force": "true"}),
        (["redeploy", "shop"], "/apps/redeploy", {"appname": "shop", "force": "false"}),
        (["redeploy", "shop", "--hard", "-y"], "/apps/redeploy", {"appname": "shop", "force": "true"}),
        (
            ["redeploy", "db_shop"],
            "/apps/redeploycomponent",
            {"appname": "shop", "component": "db", "force": "false"},
        ),
    ],
)
def test_what_is_asked(node: Node, words: list[str], path: str, query: dict[str, str]) -> None:
    assert call(words) == exitcodes.OK
    assert node.asked[0][:2] == (path, query)
    assert (node.asked[0][2] == "zelid=1Me") == (not path.startswith("/trionode/container"))


def test_the_list_says_what_is_odd(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["containers", "ls"]) == 0
    out = capsys.readouterr().out
    for text in (
        "24.0.0",
        "installation of mail",
        "shop until 2025-10-09T09:53:20.123Z (backup or restore)",
        "2 apps installed",
        "stopped on purpose; ended by itself 3 times in a row, started again from 2025-10-09T08:58:20.123Z",
        "cannot be opened here",
        "fluxold_x",
    ):
        assert text in out
    assert "\x1b" not in out


def test_what_an_engine_that_is_away_runs_is_not_known(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    part = {**PART, "state": None, "status": None, "image": None, "ports": []}
    apps = [{"name": "shop", "hash": "ab", "height": 1, "components": [part]}]
    for reachable, word in ((True, "missing"), (False, "?")):
        engine = {**OVERVIEW["engine"], "reachable": reachable, "problem": "no answer"}
        found = {**OVERVIEW, "engine": engine, "apps": apps}
        node.answers["/trionode/containers"] = {"status": "success", "data": found}
        assert call(["containers", "ls"]) == 0
        assert f"web_shop   {word}" in capsys.readouterr().out


def test_what_would_be_done(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["containers", "plan"]) == 0
    assert [re.split(r"\s{2,}", line) for line in capsys.readouterr().out.splitlines()] == [
        ["3 actions"],
        ["action", "app", "component", "when", "because"],
        ["remove orphan", "shop", "web_shop", "2025-10-09T08:53:20.123Z", "it is still stopped"],
        ["remove", "mail", "-", "block 2100044", "it has ended"],
        ["wait", "-", "node", "-", "the machine goes down"],
    ]
    assert call(["containers", "plan", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == PLAN
    node.answers["/trionode/containerplan"] = {"status": "success", "data": []}
    assert call(["containers", "plan"]) == 0
    assert capsys.readouterr().out == "nothing is to be done\n"


def test_logs_without_control_characters(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["containers", "logs", "web_shop"]) == 0
    assert capsys.readouterr().out == "one\ntwo \ufffd\n"
    assert call(["containers", "logs", "web_shop", "--follow"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("hello \ufffd\n", "trouble\n")
    assert call(["containers", "logs", "web_shop", "-f", "-t"]) == 0
    assert capsys.readouterr().out.startswith("2025-10-09T08:53:20Z hello")
    node.answers["/trionode/applog"] = BAD
    assert call(["containers", "logs", "web_shop", "-f"]) == exitcodes.FAILURE


def test_progress_as_lines(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["install", "shop"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Pulling library/web:1",
        "aa: Downloading",
        "aa: Pull complete",
        "Flux App shop was done",
    ]


def test_progress_as_json(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["install", "shop", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [*STEPS, {"status": "success", "message": "Flux App shop was done"}]


def test_progress_as_bars(
    node: Node, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert call(["install", "shop"]) == 0
    out = capsys.readouterr().out
    assert "Pulling library/web:1" in out
    assert "aa: Pull complete" in out
    assert out.rstrip().endswith("Flux App shop was done")


@pytest.mark.parametrize(
    ("answer", "said", "code"),
    [
        ([*STEPS, BAD], "the volume is in use (at: unmount)", exitcodes.FAILURE),
        (BAD, "the volume is in use (at: unmount)", exitcodes.FAILURE),
        ({"status": "warning", "data": {"message": "busy"}}, "busy", exitcodes.FAILURE),
        ([*STEPS], "broke off", exitcodes.UNREACHABLE),
    ],
)
def test_how_it_fails(
    node: Node, capsys: pytest.CaptureFixture[str], answer: Any, said: str, code: int
) -> None:
    node.answers["/apps/redeploy"] = answer
    assert call(["redeploy", "shop"]) == code
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_nothing_is_deleted_unasked(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["remove", "shop"], ["redeploy", "shop", "--hard"]):
        assert call(words) == exitcodes.FAILURE
        assert "--yes" in capsys.readouterr().err
    assert node.asked == []


def test_a_removal_everywhere_is_not_forced(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    """The command the nodes pass on has no place for it."""
    assert call(["remove", "shop", "-y", "--force", "--everywhere"]) == exitcodes.USAGE
    assert "--force or --everywhere" in capsys.readouterr().err
    assert node.asked == []


def test_signing_in_is_asked_for(
    node: Node, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRIONODE_ZELIDAUTH")
    for words in (["containers", "stop", "shop"], ["install", "shop"], ["remove", "shop", "-y"]):
        assert call(words) == exitcodes.FAILURE
        assert "--key" in capsys.readouterr().err
    assert node.asked == []


def test_an_app_that_is_not_here(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.answers["/trionode/containers"] = {"status": "success", "data": {**OVERVIEW, "apps": []}}
    assert call(["containers", "ls", "other"]) == exitcodes.FAILURE
    assert "other is not installed on this node" in capsys.readouterr().err


def test_nobody_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIONODE_ZELIDAUTH", "zelid=1Me")
    assert call(["install", "shop", "--api", "http://127.0.0.1:9"]) == exitcodes.UNREACHABLE
    assert "trionode run" in capsys.readouterr().err
