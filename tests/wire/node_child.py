"""A persistent Node.js child that evaluates one expression per line, for comparing with real JavaScript."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_PROGRAM = """
const fn = eval(process.argv[1]);
require('readline').createInterface({input: process.stdin}).on('line', (line) => {
  let out;
  try { out = {ok: fn(JSON.parse(line))}; } catch (e) { out = {error: String(e)}; }
  if (out.ok === undefined && out.error === undefined) out.error = 'undefined';
  // ASCII only on the pipe, so that lone surrogates survive
  process.stdout.write(JSON.stringify(out).replace(/[\\u007f-\\uffff]/g,
    (c) => '\\\\u' + c.charCodeAt(0).toString(16).padStart(4, '0')) + '\\n');
});
"""


class JavaScriptError(Exception):
    """The expression threw."""


class NodeChild:
    """`call(value)` hands `value` to the function given at start and returns what it returned."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def call(self, value: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise JavaScriptError(answer["error"])
        return answer["ok"]


@contextmanager
def node_child(function: str) -> Iterator[NodeChild]:
    """Start Node with a JavaScript function expression; skips the test when Node is not installed."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not on PATH: the comparison with real JavaScript did not run")
    process = subprocess.Popen(
        [node, "-e", _PROGRAM, f"({function})"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="ascii",
    )
    try:
        yield NodeChild(process)
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
