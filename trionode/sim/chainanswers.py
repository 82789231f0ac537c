"""What the two virtual daemons answer (docs/spec/testnet.md §4.1, daemon-rpc.md §4, §6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from trionode.chain.port import RpcParams
from trionode.errors import ChainError
from trionode.sim.chainindex import address_deltas, address_txids
from trionode.sim.chainnodes import StubNode
from trionode.sim.sealing import unwrap

if TYPE_CHECKING:
    from trionode.sim.chain import VirtualChain

METHOD_NOT_FOUND = -32601
NODE_LIST_METHODS = frozenset(
    {
        "viewdeterministiczelnodelist",
        "viewdeterministicfluxnodelist",
        "listfluxnodes",
        "listzelnodes",
    }
)
HARDWARE = {
    "CUMULUS": (4, 7.5, 240),
    "NIMBUS": (8, 31.0, 480),
    "STRATUS": (16, 62.0, 960),
}
"""Cores, RAM in GB, SSD in GB of each tier."""


def daemon_answer(chain: VirtualChain, node: StubNode | None, method: str, params: RpcParams) -> Any:
    """Result of a chain-daemon call for `node` (None: the caller is not in the registry)."""
    blocks = chain.blocks
    if method in NODE_LIST_METHODS:
        return _filtered(chain.rows(), params)
    if method in ("getzelnodestatus", "getfluxnodestatus"):
        return _node_status(chain, node)
    match method:
        case "getblockchaininfo":
            return {
                "chain": "main",
                "blocks": blocks.height,
                "headers": blocks.height,
                "bestblockhash": blocks.hash_at(blocks.height),
            }
        case "getblockcount":
            return blocks.height
        case "getbestblockhash":
            return blocks.hash_at(blocks.height)
        case "getblockhash":
            return blocks.hash_at(_height(chain, params))
        case "getblock" | "getblockheader":
            block = _block(chain, params)
            return block if method == "getblock" else {k: v for k, v in block.items() if k != "tx"}
        case "getchaintips":
            tip = {"height": blocks.height, "hash": blocks.hash_at(blocks.height), "branchlen": 0}
            lowest = params[0] if params and isinstance(params[0], int) else 0
            forks = [fork for fork in blocks.forks if fork["height"] >= lowest]
            return [{**tip, "status": "active"}, *forks]
        case "getrawtransaction":
            return _transaction(chain, params)
        case "getinfo":
            return {"version": 6010050, "protocolversion": 170018, "blocks": blocks.height, "balance": 0}
        case "getaddresstxids":
            return [*chain.index.txids, *address_txids(blocks, params)]
        case "getaddressdeltas":
            return [*chain.index.deltas, *address_deltas(blocks, params)]
        case "getaddressutxos" | "getrawmempool" | "getpeerinfo":
            return []
        case "createconfirmationtransaction":
            return {"hex": "00"}
        case "getzelnodecount" | "getfluxnodecount":
            count = len(chain.rows())
            return {"total": count, "stable": count, "enabled": count}
        case "getmempoolinfo":
            return {"size": 0, "bytes": 0, "usage": 0}
        case "getconnectioncount":
            return 8
        case "getnetworkinfo":
            return {"version": 6010050, "subversion": "/MagicBean:6.1.0/", "connections": 8}
        case "getbenchmarks":
            return msgspec.json.encode(bench_answer(node, "", method)).decode()
    raise _unknown(method)


def bench_answer(node: StubNode | None, ip: str, method: str, params: RpcParams = ()) -> Any:
    """Result of a benchmark-daemon call for `node`, calling from `ip`."""
    address = node.ip if node is not None else ip
    match method:
        case "getbenchmarks":
            cores, ram_gb, ssd_gb = HARDWARE[node.tier if node is not None else "CUMULUS"]
            return {
                "ipaddress": address,
                "cores": cores,
                "real_cores": cores,
                "ram": ram_gb,
                "ssd": ssd_gb,
                "hdd": 0,
                "disk": ssd_gb,
                "diskwritespeed": 500,
                "eps": 500,
                "eps_singlethread": 120,
                "download_speed": 500,
                "upload_speed": 500,
                "ping": 10,
                "architecture": "amd64",
                "bench_version": "5.0.0",
                **({"systemsecure": True} if node is not None and node.secure else {}),
            }
        case "decryptrsamessage" if node is not None and node.secure:
            return unwrap(str(params[0]) if params else "")
        case "getinfo":
            return {"version": "5.0.0", "rpcport": 16224}
        case "getstatus":
            return {"status": "online", "benchmarking": node.tier if node else "CUMULUS", "flux": "connected"}
        case "getpublicip":
            return address.partition(":")[0]
        case "getpublickey":
            return node.pubkey if node is not None else ""
    raise _unknown(method)


def _unknown(method: str) -> ChainError:
    return ChainError(f"Method not found: {method}", rpc_code=METHOD_NOT_FOUND)


def _filtered(rows: list[dict[str, Any]], params: RpcParams) -> list[dict[str, Any]]:
    wanted = params[0] if params else ""
    if not isinstance(wanted, str) or not wanted:
        return rows
    return [
        row for row in rows if wanted in (row["pubkey"], row["txhash"], row["ip"], row["payment_address"])
    ]


def _node_status(chain: VirtualChain, node: StubNode | None) -> dict[str, Any]:
    if node is None:
        return {"status": "EXPIRED", "collateral": "COutPoint(, 0)"}
    return {
        **node.row(0),
        "status": chain.status_of(node),
        "amount": f"{node.collateral_flux}.00",
    }


def _height(chain: VirtualChain, params: RpcParams) -> int:
    height = chain.blocks.height_of(params[0]) if params else None
    if height is None:
        raise ChainError(f"Block not found: {params[0] if params else 'no block named'}", rpc_code=-5)
    return height


def _block(chain: VirtualChain, params: RpcParams) -> dict[str, Any]:
    block = chain.blocks.named(params[0]) if params else None
    if block is None:
        raise ChainError(f"Block not found: {params[0] if params else 'no block named'}", rpc_code=-5)
    return block


def _transaction(chain: VirtualChain, params: RpcParams) -> dict[str, Any]:
    txid = str(params[0]) if params else ""
    known = chain.index.transactions.get(txid) or chain.blocks.transaction(txid)
    if known is not None:
        return known
    for node in chain.registry.values():
        if node.collateral_txid == txid:
            amount = {"n": 0, "value": node.collateral_flux, "valueSat": node.collateral_flux * 10**8}
            return {"txid": txid, "version": 4, "vin": [], "vout": [amount], "height": node.added_height}
    raise ChainError(f"No such mempool or blockchain transaction: {txid}", rpc_code=-5)
