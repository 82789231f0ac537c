"""How a virtual daemon can misbehave, and the in-memory client that suffers from it.

Faults are those of docs/spec/daemon-rpc.md §2 and §9: gone, slow, no JSON, JSON of the wrong shape,
batches with items left out. The warming-up error -28 belongs to the chain itself (VirtualChain.fail).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec
import trio

from trionode.chain.port import RpcParams
from trionode.errors import ChainError

Answer: TypeAlias = Callable[[str, RpcParams], Any]

WRONG_SHAPE: dict[str, Any] = {"stub": "an answer of the wrong shape"}


class Mode(enum.Enum):
    """How the daemons behave towards one node."""

    OK = "ok"
    DOWN = "down"
    SLOW = "slow"
    GARBAGE = "garbage"
    """Answers that are no JSON."""
    WRONG = "wrong"
    """JSON, but not what was asked for."""
    HALF_BATCH = "half-batch"
    """Every second item of a batch is left out; single calls are answered."""


class Behaviour(msgspec.Struct, frozen=True):
    """A mode; `delay_ms` is how long a slow answer takes."""

    mode: Mode = Mode.OK
    delay_ms: int = 0


def is_left_out(behaviour: Behaviour, index: int) -> bool:
    """Whether this item of a batch gets no answer."""
    return behaviour.mode is Mode.HALF_BATCH and index % 2 == 1


class VirtualRpc:
    """One daemon seen by one node, in memory; implements `ChainRpc` faults included."""

    def __init__(
        self, server: str, answer: Answer, behaviour: Callable[[], Behaviour], timeout_s: float
    ) -> None:
        self._server = server
        self._answer = answer
        self._behaviour = behaviour
        self._timeout_s = timeout_s

    async def call(self, method: str, params: RpcParams = (), *, fresh: bool = False) -> Any:
        """See `ChainRpc.call`; there is no cache here, `fresh` makes no difference."""
        behaviour = await self._suffer()
        result = self._answer(method.lower(), params)
        return dict(WRONG_SHAPE) if behaviour.mode is Mode.WRONG else result

    async def batch(self, calls: Sequence[tuple[str, RpcParams]]) -> list[Any]:
        """See `ChainRpc.batch`."""
        behaviour = await self._suffer()
        results: list[Any] = []
        for index, (method, params) in enumerate(calls):
            try:
                if is_left_out(behaviour, index):
                    raise ChainError(f"the virtual {self._server} left out item {index} of a batch")
                result = self._answer(method.lower(), params)
                results.append(dict(WRONG_SHAPE) if behaviour.mode is Mode.WRONG else result)
            except ChainError as error:
                results.append(error)
        return results

    async def _suffer(self) -> Behaviour:
        await trio.lowlevel.checkpoint()
        behaviour = self._behaviour()
        if behaviour.mode is Mode.DOWN:
            raise ChainError(f"the virtual {self._server} is down", rpc_code="ECONNREFUSED")
        if behaviour.mode is Mode.GARBAGE:
            raise ChainError(f"the virtual {self._server} answered garbage")
        if behaviour.mode is Mode.SLOW:
            delay_s = behaviour.delay_ms / 1000
            await trio.sleep(min(delay_s, self._timeout_s))
            if delay_s >= self._timeout_s:
                raise ChainError(
                    f"no answer from the virtual {self._server} within {self._timeout_s:g} s",
                    rpc_code="ECONNABORTED",
                )
        return behaviour
