"""Asking other nodes to knock at our ports (docs/spec/api.md §6, lifecycle.md §10, §18).

Strangers answer: what is no clear word of theirs is no testimony. Both questions go out from the own
address, which is how they know whom to knock at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import trio

from trionode.errors import WireError
from trionode.lifecycle.dos import Knock
from trionode.sync.source import NodeHttp, PeerHttp, SourceError
from trionode.sync.wholebody import whole_body
from trionode.wire.jsjson import parse, stringify, utf8
from trionode.wire.keys import NodeKey

REACH_PATH = "/flux/checkfluxavailability"
PORTS_PATH = "/flux/checkappavailability"
TEST_NAME = "appPortsTest"
FAILED = "Failed port: "
BODY_LIMIT_BYTES = 64 * 1024


class ReachWitness:
    """Asks whether this node can be reached; `timeout_s` bounds one whole answer."""

    def __init__(self, http: PeerHttp, timeout_s: float) -> None:
        self._http = http
        self._timeout_s = timeout_s

    async def reaches_us(self, ip: str, port: int, own_ip: str, own_port: int) -> Knock:
        """What the node at ip:port says of us. An error is a no, as is a text with "not" in it."""
        path = f"{REACH_PATH}?ip={own_ip}&port={own_port}"
        answer: Any = None
        with trio.move_on_after(self._timeout_s):
            try:
                async with self._http.get(ip, port, path) as body:
                    answer = _read(await whole_body(body, BODY_LIMIT_BYTES))
            except SourceError:
                return Knock.SILENT
        status, text = _word(answer)
        if status == "error" or "not" in text:
            return Knock.SHUT
        return Knock.REACHED if status == "success" else Knock.SILENT


class PortWord(msgspec.Struct, frozen=True):
    """What a node said of our ports; `failed`: the first that was shut."""

    knock: Knock
    failed: int | None = None


class PortWitness:
    """Asks whether ports of this node can be reached, in a message signed with its key."""

    def __init__(self, http: NodeHttp, key: NodeKey) -> None:
        self._http = http
        self._key = key

    async def reaches_ports(
        self,
        ip: str,
        port: int,
        *,
        own_ip: str,
        own_port: int,
        ports: Sequence[int],
        timeout_s: float,
    ) -> PortWord:
        """What the node at ip:port says of these ports. Only an error that names a port is a no."""
        answer: Any = None
        with trio.move_on_after(timeout_s):
            try:
                asked = self._http.post(ip, port, PORTS_PATH, self._body(own_ip, own_port, ports))
                async with asked as body:
                    answer = _read(await whole_body(body, BODY_LIMIT_BYTES))
            except SourceError:
                return PortWord(Knock.SILENT)
        status, text = _word(answer)
        if status == "success":
            return PortWord(Knock.REACHED)
        number = text.rpartition(FAILED)[2] if FAILED in text else ""
        if status != "error" or not (number.isascii() and number.isdigit() and len(number) < 6):
            return PortWord(Knock.SILENT)
        return PortWord(Knock.SHUT, int(number))

    def _body(self, own_ip: str, own_port: int, ports: Sequence[int]) -> bytes:
        """The signature covers the text of all members before it, in their order."""
        asked = {
            "ip": own_ip,
            "port": own_port,
            "appname": TEST_NAME,
            "ports": list(ports),
            "pubKey": self._key.public_key,
        }
        return utf8(stringify({**asked, "signature": self._key.sign(stringify(asked))}))


def _read(body: bytes | None) -> Any:
    try:
        return None if body is None else parse(body.decode("utf-8", "replace"))
    except WireError:
        return None


def _word(answer: Any) -> tuple[str, str]:
    """Status and message of an answer, empty where it has none."""
    if not isinstance(answer, dict):
        return "", ""
    status, data = answer.get("status"), answer.get("data")
    text = data.get("message") if isinstance(data, dict) else data
    return status if isinstance(status, str) else "", text if isinstance(text, str) else ""
