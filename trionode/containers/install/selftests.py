"""Images that test themselves: in a test install they are asked what came of it (docs/spec/lifecycle.md §12).

Those of `runonflux/orbit*` build an app from sources and tell by `/api/status` whether that went well.
"""

from __future__ import annotations

from typing import Any

import trio

from trionode.containers.engine import EngineError
from trionode.containers.install.part_steps import PartStep
from trionode.containers.node.outside import OutsideError

IMAGES = "runonflux/orbit"
FIRST_S = 5.0
PAUSE_S = 5.0
TRIES = 24


class SelfTestStep(PartStep):
    """Waits until the component says that it works; images of others say nothing and pass."""

    what = "own test of"

    async def do(self) -> None:
        source, part = self._bench.outside, self._part
        if source is None or not part.repotag.startswith(IMAGES) or not part.ports:
            await trio.lowlevel.checkpoint()
            return
        self._job.tell(f"Waiting for {part.identifier} to test itself...")
        await trio.sleep(FIRST_S)
        for _ in range(TRIES):
            try:
                answer = await source.get_json(f"http://127.0.0.1:{part.ports[0]}/api/status")
            except OutsideError:
                answer = None  # not up yet: asked again below
            if _status(answer) is True:
                return
            if _status(answer) == "failed":
                break
            await trio.sleep(PAUSE_S)
        raise EngineError(
            f"{part.identifier} did not pass its own test", remedy="see what its log says of the build"
        )


def _status(answer: Any) -> Any:
    return answer.get("initialTestStatus") if isinstance(answer, dict) else None
