"""Installing an app on this node by hand (docs/spec/api.md §8.2).

The operator or the team may install any app that is in force; every user may try one whose message waits for
its payment. What nobody has paid for stays a while only: its row is dated back so that it ends that many
blocks from now.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trionode.api.answers import Answer, ApiFailure, Stream, refusal
from trionode.api.appcall import caller_of, containers_of_node, desk_of, target_of
from trionode.api.call import Call
from trionode.api.commandstream import STREAM_HEADERS, CommandStream
from trionode.api.levels import Level
from trionode.api.registrycall import find_current, store_of
from trionode.api.route import MESSAGE, Param, Route
from trionode.api.routes.appremoval import API, answer_of, require_idle
from trionode.registry.expiry import expiration_height, is_over

HASH = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


async def install(call: Call) -> Answer | Stream:
    return await _install(call, test=False)


async def test_install(call: Call) -> Answer | Stream:
    return await _install(call, test=True)


async def _install(call: Call, *, test: bool) -> Answer | Stream:
    target = target_of(call)
    containers, desk = containers_of_node(call), desk_of(call)
    spec = await _temporary_spec(call, target)
    if spec is None:
        if not call.allowed(Level.ADMIN_OR_TEAM):
            return refusal()
        spec = await _paid_spec(call, target)
    app = str(spec["name"])
    require_idle(containers)
    if not test and containers.installed.get(app) is not None:
        raise ApiFailure(f"Flux App {app} is installed already")
    found = await containers.specs.opened(spec)
    if found is None:
        raise ApiFailure("This node cannot open encrypted specifications")

    async def work(progress: CommandStream) -> Answer:
        outcome = await containers.actions.install(
            found, reason=API, test=test, tell_failure=False, progress=progress
        )
        tested = "was tested and removed again" if test else "was successfully installed"
        return answer_of(outcome, f"Flux App {app} {tested}")

    return Stream(desk.begin(work, caller_of(call)), STREAM_HEADERS)


async def _temporary_spec(call: Call, target: str) -> Mapping[str, Any] | None:
    """Of a message that waits for its payment."""
    if not HASH.fullmatch(target):
        return None
    row = await store_of(call).temporary(target.lower())
    if row is None or row.expire_at_ms <= call.context.clock.now_ms():
        return None
    allowance = call.context.settings.registry.temporary_allowance_blocks
    return _for_a_while(call, row.spec(), row.hash, allowance)


async def _paid_spec(call: Call, target: str) -> Mapping[str, Any]:
    """In force by its name, or of a paid message by its hash. Raises ApiFailure."""
    if not HASH.fullmatch(target):
        current = await find_current(call, target)
        if current is None:
            raise ApiFailure(f"There is no app {target!r} in force")
        return {**current.spec(), "hash": current.hash, "height": current.height}
    row = await store_of(call).permanent(target.lower())
    if row is None:
        raise ApiFailure("No message of this hash is known")
    spec = row.spec()
    constants = call.context.registry.constants
    if is_over(expiration_height(row.height, spec.get("expire"), constants), call.context.chain.height):
        return _for_a_while(call, spec, row.hash, call.context.settings.registry.owner_rename_blocks)
    return {**spec, "hash": row.hash, "height": row.height}


def _for_a_while(call: Call, spec: Mapping[str, Any], hash_: str, blocks: int) -> Mapping[str, Any]:
    """Dated so that it ends that many blocks from now."""
    height = call.context.chain.height
    if not height:
        raise ApiFailure("Daemon not yet synced.")
    constants = call.context.registry.constants
    lasts = expiration_height(height, spec.get("expire"), constants) - height
    return {**spec, "hash": hash_, "height": max(0, height + blocks - lasts)}


_WHAT = Param("appname", "Name of an app in force, or the hash of a message", required=True)
_GROUP = "commands to apps"

ROUTES = (
    Route(
        "/apps/installapplocally",
        install,
        "Install an app here: unpaid ones by anybody and for a while, others by operator or team",
        _GROUP,
        level=Level.USER,
        params=(_WHAT,),
        result=MESSAGE,
        acts=True,
        streams=True,
    ),
    Route(
        "/apps/testappinstall",
        test_install,
        "Install an app here in a small form and remove it again",
        _GROUP,
        level=Level.USER,
        params=(_WHAT,),
        result=MESSAGE,
        acts=True,
        streams=True,
    ),
)
