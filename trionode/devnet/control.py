"""Driving the chain of a local network: blocks and payments (docs/spec/testnet.md §4.1)."""

from __future__ import annotations

import http.client
import json
from typing import Any

from trionode.devnet.layout import CONTROL_PORT, Layout
from trionode.errors import ChainError

TIMEOUT_S = 5.0


def control(layout: Layout, method: str, path: str, body: Any = None) -> Any:
    """One request to the control API of the chain stand-in. Raises OSError or ChainError."""
    connection = http.client.HTTPConnection(layout.stub_ip, CONTROL_PORT, timeout=TIMEOUT_S)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, body=text, headers={"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    finally:
        connection.close()
    if response.status != 200:
        raise ChainError(f"the chain stand-in refused {method} {path}: {answer.get('error')}")
    return answer


def pay(layout: Layout, app_hash: str) -> int:
    """Pay for a message in a block mined now; the height of that block."""
    return int(control(layout, "POST", "/advance-block", {"appHash": app_hash})["height"])


def mine(layout: Layout, count: int = 1) -> int:
    """Mine blocks now; the new height."""
    return int(control(layout, "POST", "/advance-block", {"count": count})["height"])
