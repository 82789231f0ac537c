"""The control API of the daemon stub (docs/spec/testnet.md §4.1, with its `/all` defect repaired).

Every route of the table that concerns the chain itself, plus ours: POST /behaviour/{ip|all}
{mode: ok|down|slow|garbage|wrong|half-batch, delayMs}, POST and DELETE /node-secure/{ip|all} (what its
benchmark says of its system), POST /advance-block {count}, POST /nodes/add {node},
POST /reorg {depth, extra, fate: keep|shift|drop}, POST /plant-app-tx {appHash, height, valueSat}.
Errors are 400/404 with {"error": text}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import msgspec

from trionode.errors import ConfigError
from trionode.sim.chain import Mode, VirtualChain
from trionode.sim.chainblocks import Fate
from trionode.sim.chainnodes import nodes_from
from trionode.sim.chainpayments import APP_PAYMENT_SATOSHIS, payment
from trionode.sim.minihttp import StubReply, StubRequest, json_reply

Body = dict[str, Any]
Route = Callable[[Body, tuple[str, ...], StubRequest], Any]

FATES = get_args(Fate)
MOST_BLOCKS_AT_ONCE = 100_000


class ControlError(ConfigError):
    """A control request that cannot be followed."""

    code = "stub-control"


class ControlApi:
    """Routes control requests to the chain's operations."""

    def __init__(self, chain: VirtualChain) -> None:
        self._chain = chain
        self._routes: dict[tuple[str, str, int], Route] = {
            ("GET", "state", 0): lambda *_: self._chain.state(),
            ("GET", "health", 0): lambda *_: {"ok": True},
            ("POST", "ticker/start", 0): lambda *_: self._chain.start_ticker(),
            ("POST", "ticker/stop", 0): lambda *_: self._chain.stop_ticker(),
            ("POST", "advance-block", 0): self._advance_block,
            ("POST", "set-height", 0): lambda body, *_: self._chain.set_height(_whole(body, "height")),
            ("POST", "add-block-fixture", 0): self._add_block,
            ("DELETE", "pending-blocks", 0): lambda *_: self._chain.blocks.pending.clear(),
            ("POST", "queue-app-tx", 0): self._queue_app,
            ("POST", "plant-app-tx", 0): self._plant_app,
            ("POST", "reorg", 0): self._reorg,
            ("POST", "seed-address-txids", 0): self._seed_txids,
            ("POST", "seed-address-deltas", 0): self._seed_deltas,
            ("POST", "seed-transaction", 0): self._seed_transaction,
            ("DELETE", "seed-data", 0): lambda *_: self._chain.index.clear(),
            ("POST", "set-node-list", 0): self._set_nodes,
            ("POST", "nodes/add", 0): self._add_node,
            ("GET", "node-status", 0): lambda *_: dict(self._chain.statuses),
            ("POST", "node-status", 1): lambda body, args, _: self._chain.set_status(
                args[0], _text(body, "status")
            ),
            ("DELETE", "node-status", 1): lambda _, args, __: self._chain.clear_status(args[0]),
            ("POST", "node-list/remove", 1): lambda _, args, __: {
                "removed": self._chain.remove_node(args[0])
            },
            ("POST", "node-list/restore", 1): self._restore_node,
            ("POST", "node-list/reset", 0): lambda *_: self._chain.reset_nodes(),
            ("POST", "node-tier", 1): lambda body, args, _: {
                "changed": self._chain.set_tier(args[0], _text(body, "tier"))
            },
            ("POST", "node-secure", 1): lambda _, args, __: {
                "changed": self._chain.set_secure(args[0], secure=True)
            },
            ("DELETE", "node-secure", 1): lambda _, args, __: {
                "changed": self._chain.set_secure(args[0], secure=False)
            },
            ("POST", "rpc-fail", 1): lambda _, args, __: self._chain.fail(args[0]),
            ("DELETE", "rpc-fail", 1): lambda _, args, __: self._chain.recover(args[0]),
            ("POST", "behaviour", 1): self._behave,
            ("DELETE", "behaviour", 1): lambda _, args, __: self._chain.behave(args[0], Mode.OK),
            ("POST", "reset", 0): lambda *_: self._chain.reset(),
            ("GET", "journal", 0): self._journal,
            ("DELETE", "journal", 0): lambda *_: self._chain.clear_journal(),
        }

    async def handle(self, request: StubRequest) -> StubReply:
        """Answer one control request."""
        path = request.segments
        for taken in range(len(path), 0, -1):
            arguments = path[taken:]
            route = self._routes.get((request.method, "/".join(path[:taken]), len(arguments)))
            if route is not None:
                break
        else:
            return json_reply({"error": f"no control route {request.method} /{'/'.join(path)}"}, 404)
        try:
            result = route(_body(request), arguments, request)
        except ConfigError as error:
            return json_reply({"error": error.one_line()}, 400)
        return json_reply({"ok": True} if result is None else result)

    def _advance_block(self, body: Body, _: tuple[str, ...], __: StubRequest) -> Any:
        count = _whole(body, "count") if "count" in body else 1
        if count > MOST_BLOCKS_AT_ONCE:
            raise ControlError(f"count is {count}", remedy=f"mine at most {MOST_BLOCKS_AT_ONCE} at once")
        if "appHash" in body:
            self._chain.blocks.app_queue.append(_app_hash(body))
        block = body.get("block")
        if block is not None and not isinstance(block, dict):
            raise ControlError("block is no object", remedy="give a block as getblock would answer it")
        if block is not None:
            self._chain.blocks.mine(block)
            count -= 1
        return {"height": self._chain.mine(count)}

    def _add_block(self, body: Body, _: tuple[str, ...], __: StubRequest) -> Any:
        self._chain.blocks.pending.append(body)
        return {"pendingBlocks": len(self._chain.blocks.pending)}

    def _queue_app(self, body: Body, _: tuple[str, ...], __: StubRequest) -> Any:
        app_hash = _app_hash(body)
        queue = self._chain.blocks.app_queue
        queue.append(app_hash)
        return {"queued": app_hash, "queueLength": len(queue), "nextBlockHeight": self._chain.height + 1}

    def _plant_app(self, body: Body, _: tuple[str, ...], __: StubRequest) -> Any:
        app_hash, height = _app_hash(body), _whole(body, "height")
        value_sat = _whole(body, "valueSat") if "valueSat" in body else APP_PAYMENT_SATOSHIS
        made = payment(f"apptx-{app_hash[:16]}-{height}", app_hash, value_sat=value_sat)
        self._chain.blocks.plant(height, made)
        return {"txid": made["txid"], "height": height}

    def _reorg(self, body: Body, _: tuple[str, ...], __: StubRequest) -> Any:
        extra = _whole(body, "extra") if "extra" in body else 1
        fate = body.get("fate", "shift")
        if fate not in FATES:
            raise ControlError(f"fate is {fate!r}", remedy=f"use one of {', '.join(FATES)}")
        fork = self._chain.reorg(_whole(body, "depth"), extra=extra, fate=fate)
        return {"forkHeight": fork, "height": self._chain.height}

    def _seed_txids(self, body: Body, _: tuple[str, ...], __: StubRequest) -> Any:
        self._chain.index.txids.extend(str(txid) for txid in _list(body, "txids"))
        return {"txids": len(self._chain.index.txids)}

    def _seed_deltas(self, body: Body, _: tuple[str, ...], __: StubRequest) -> Any:
        self._chain.index.deltas.extend(_list(body, "deltas"))
        return {"deltas": len(self._chain.index.deltas)}

    def _seed_transaction(self, body: Body, _: tuple[str, ...], __: StubRequest) -> Any:
        self._chain.index.transactions[_text(body, "txid")] = body
        return {"transactions": len(self._chain.index.transactions)}

    def _set_nodes(self, body: Body, _: tuple[str, ...], __: StubRequest) -> Any:
        rows = body.get("nodes")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ControlError("nodes is no list of objects", remedy='send {"nodes": [{"ip", "pubkey"}]}')
        self._chain.set_nodes(nodes_from(rows, "nodes"))
        return {"nodeCount": len(rows)}

    def _add_node(self, body: Body, _: tuple[str, ...], __: StubRequest) -> Any:
        for node in nodes_from([body], "node"):
            self._chain.add_node(node)
        return {"nodeCount": len(self._chain.rows())}

    def _remove_node(self, _: Body, arguments: tuple[str, ...], __: StubRequest) -> Any:
        return {"removed": self._chain.remove_node(arguments[0])}

    def _restore_node(self, _: Body, arguments: tuple[str, ...], __: StubRequest) -> Any:
        return {"restored": self._chain.restore_node(arguments[0])}

    def _behave(self, body: Body, arguments: tuple[str, ...], _: StubRequest) -> None:
        name = _text(body, "mode")
        try:
            mode = Mode(name)
        except ValueError as error:
            names = ", ".join(one.value for one in Mode)
            raise ControlError(f"mode is {name!r}", remedy=f"use one of {names}") from error
        self._chain.behave(arguments[0], mode, _whole(body, "delayMs") if "delayMs" in body else 0)

    def _journal(self, _: Body, __: tuple[str, ...], request: StubRequest) -> Any:
        limit = request.query.get("limit")
        if limit is not None and not limit.isdecimal():
            raise ControlError(f"limit is {limit!r}", remedy="give a whole number")
        return self._chain.journal(
            request.query.get("method"),
            request.query.get("sourceIp"),
            None if limit is None else int(limit),
        )


def _body(request: StubRequest) -> Body:
    if not request.body.strip():
        return {}
    try:
        value = msgspec.json.decode(request.body)
    except msgspec.DecodeError as error:
        raise ControlError(f"the body is no JSON: {error}", remedy="send a JSON object") from error
    if not isinstance(value, dict):
        raise ControlError("the body is no JSON object", remedy="send a JSON object")
    return value


def _whole(body: Body, key: str) -> int:
    value = body.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ControlError(f"{key} is {value!r}", remedy="give a whole number of at least 0")
    return value


def _list(body: Body, key: str) -> list[Any]:
    value = body.get(key)
    if not isinstance(value, list):
        raise ControlError(f"{key} is {value!r}", remedy="give a list")
    return value


def _text(body: Body, key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise ControlError(f"{key} is {value!r}", remedy="give a text")
    return value


def _app_hash(body: Body) -> str:
    app_hash = _text(body, "appHash")
    if len(app_hash) != 64 or not app_hash.isascii():
        raise ControlError(f"appHash is {app_hash!r}", remedy="give 64 hexadecimal characters")
    return app_hash
