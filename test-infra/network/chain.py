"""The chain stand-in of a network, driven from a test (docs/spec/testnet.md §4.1)."""

from __future__ import annotations

import json
from typing import Any

import trio

from network.http import Caller
from trionode.devnet.layout import CONTROL_PORT

ALL = "all"
LOOK_EVERY_S = 0.1
CALLS_WITHIN_S = 120.0


class ChainControl:
    """The control routes as operations. `ip` may be "all"."""

    def __init__(self, caller: Caller, ip: str) -> None:
        self._caller = caller
        self._ip = ip

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One control request, which must succeed."""
        content = b"" if body is None else json.dumps(body).encode()
        answer = await self._caller.ask(self._ip, CONTROL_PORT, method, path, content)
        assert answer.status == 200, (method, path, answer.status, answer.body)
        return answer.json

    async def state(self) -> dict[str, Any]:
        return dict(await self.ask("GET", "/state"))

    async def height(self) -> int:
        return int((await self.state())["currentHeight"])

    async def mine(self, count: int = 1) -> int:
        """The new height; queued app transactions go into the first block."""
        return int((await self.ask("POST", "/advance-block", {"count": count}))["height"])

    async def queue_app(self, app_hash: str) -> int:
        """Pay for a message in the next block, whose height it gives."""
        return int((await self.ask("POST", "/queue-app-tx", {"appHash": app_hash}))["nextBlockHeight"])

    async def start_ticker(self) -> None:
        await self.ask("POST", "/ticker/start")

    async def stop_ticker(self) -> None:
        await self.ask("POST", "/ticker/stop")

    async def set_status(self, ip: str, status: str) -> None:
        await self.ask("POST", f"/node-status/{ip}", {"status": status})

    async def unconfirm(self, ip: str) -> None:
        await self.set_status(ip, "EXPIRED")

    async def confirm(self, ip: str = ALL) -> None:
        await self.ask("DELETE", f"/node-status/{ip}")

    async def fail_rpc(self, ip: str) -> None:
        await self.ask("POST", f"/rpc-fail/{ip}")

    async def mend_rpc(self, ip: str = ALL) -> None:
        await self.ask("DELETE", f"/rpc-fail/{ip}")

    async def secure(self, ip: str) -> None:
        """From now on the benchmark calls the system of that node locked down (Arcane)."""
        await self.ask("POST", f"/node-secure/{ip}")

    async def insecure(self, ip: str) -> None:
        """From now on it does not."""
        await self.ask("DELETE", f"/node-secure/{ip}")

    async def delist(self, ip: str) -> None:
        await self.ask("POST", f"/node-list/remove/{ip}")

    async def relist(self, ip: str) -> None:
        await self.ask("POST", f"/node-list/restore/{ip}")

    async def await_calls(self, method: str, source_ip: str, count: int = 2) -> None:
        """Wait for that many calls from now on: what the first of two was told has arrived at its node."""
        before = max((call["id"] for call in await self.journal()), default=0)
        with trio.fail_after(CALLS_WITHIN_S):
            # The stand-in has no events.
            while sum(call["id"] > before for call in await self.journal(method, source_ip)) < count:  # noqa: ASYNC110
                await trio.sleep(LOOK_EVERY_S)

    async def journal(self, method: str = "", source_ip: str = "") -> list[dict[str, Any]]:
        """The RPC calls that arrived, of one method and one caller."""
        query = "&".join(
            f"{key}={value}" for key, value in (("method", method), ("sourceIp", source_ip)) if value
        )
        return list(await self.ask("GET", f"/journal?{query}"))
