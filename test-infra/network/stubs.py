"""The stand-ins for outside services and for single peers, driven from a test (docs/spec/testnet.md §4.2)."""

from __future__ import annotations

import json
from typing import Any

from network.http import Caller

SERVICES_CONTROL_PORT = 3001
PEER_CONTROL_PORT = 16128


class StubControl:
    """A control port that speaks JSON."""

    def __init__(self, caller: Caller, ip: str, port: int) -> None:
        self._caller = caller
        self.ip = ip
        self._port = port

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        content = b"" if body is None else json.dumps(body).encode()
        answer = await self._caller.ask(self.ip, self._port, method, path, content)
        assert answer.status == 200, (method, path, answer.status, answer.body)
        return answer.json


class ServicesStub(StubControl):
    """Lists, releases, geolocation."""

    def __init__(self, caller: Caller, ip: str) -> None:
        super().__init__(caller, ip, SERVICES_CONTROL_PORT)


class PeerStub(StubControl):
    """A peer that has only the messages it was given."""

    def __init__(self, caller: Caller, ip: str) -> None:
        super().__init__(caller, ip, PEER_CONTROL_PORT)

    async def load(self, message: dict[str, Any]) -> None:
        await self.ask("POST", "/load-message", message)

    async def stats(self) -> dict[str, Any]:
        return dict(await self.ask("GET", "/stats"))
