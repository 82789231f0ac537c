"""Section runners of wire.json for state sync and the node list (docs/spec/wire.md §11, §13, §3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runner import Context, Mismatch, Outcome, each, expect, fields, one, register

from trionode.wire import syncmsg
from trionode.wire.envelope import Envelope, decode_envelope
from trionode.wire.frames import SYNC_INSTALL_ERRORS, SYNC_INSTALLING, SYNC_RUNNING, SYNC_TEMP
from trionode.wire.jsjson import parse, stringify
from trionode.wire.nodelist import NodeEntry, NodeList, sorted_by_height
from trionode.wire.origin import BY_IP_TYPES, OriginVerdict, is_signed, verify_records


def rebuilt_item(kind: int, record: syncmsg.SyncRecord) -> str:
    """The item as our own answer would carry it, made from its parts."""
    item, envelope = record.item, record.envelope
    if kind == SYNC_TEMP:
        return syncmsg.temp_item_text(item)
    times = {f"{name}_ms": syncmsg.iso_ms(item[key]) for name, key in _DATES.items() if key in item}
    if kind == SYNC_RUNNING:
        signed: dict[str, Any] = {}
        if envelope is not None:
            signed = {
                "data_text": envelope.data_text,
                "envelope_text": syncmsg.envelope_fields_text(envelope),
            }
        return syncmsg.event_item_text(item["ip"], item["type"], item["dedupKey"], **times, **signed)
    if envelope is None:
        raise Mismatch("a signed copy cannot be read")
    return syncmsg.signed_copy_item_text(envelope.text, **times)  # type: ignore[arg-type]


_DATES = {
    "broadcasted_at": "broadcastedAt",
    "created_at": "createdAt",
    "received_at": "receivedAt",
    "expire_at": "expireAt",
}


@register("wire", "sync_responses")
def sync_responses(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "text_frame type", "signature_ok db_sort name note")
        envelope = decode_envelope(parse(case["text_frame"]))
        expect("text sent on", envelope.text, case["text_frame"])
        expect("type", envelope.type, case["type"])
        if "signature_ok" in case:
            expect("signature", is_signed(envelope), case["signature_ok"])
        expect("is a sync answer", syncmsg.is_sync_answer(parse(case["text_frame"])), True)
        chunk = syncmsg.read_chunk(envelope)
        expect("done", chunk.done, envelope.data["done"])
        expect("records", list(chunk.messages), envelope.data["messages"])
        if "db_sort" in case:
            expect("order", {syncmsg.ORDER_FIELDS[chunk.kind]: 1}, case["db_sort"])
        records = syncmsg.records_of(chunk)
        texts = [rebuilt_item(chunk.kind, record) for record in records]
        # the order of an item's own keys is not significant, that inside `data` is
        rebuilt = parse(syncmsg.chunk_data_text(chunk.kind, texts, done=chunk.done))
        expect("answer built by us", rebuilt, envelope.data)
        expect("keys of the answer", list(rebuilt), list(envelope.data))
        for ours, theirs in zip(rebuilt["messages"], chunk.messages, strict=True):
            expect("signed data", stringify(ours.get("data")), stringify(theirs.get("data")))
        if chunk.kind in (SYNC_RUNNING, SYNC_INSTALLING, SYNC_INSTALL_ERRORS):
            for record in records:
                _check_record(record)

    return each("sync_responses", section, check, ("name", "type"))


def _check_record(record: syncmsg.SyncRecord) -> None:
    if record.item.get("type") == "evicted":
        expect("evictions are unsigned", record.envelope, None)
    elif record.envelope is None:
        raise Mismatch(f"record cannot be read: {record.item!r}")
    else:
        expect("record signature", is_signed(record.envelope), True)


@register("wire", "sync_receive_batch")
def sync_receive_batch(section: Any, context: Context) -> Iterator[Outcome]:
    fields(section, "node_list items", "unsolicited_peer_stored note")
    named = context.document.get("keys", {})
    nodes = NodeList.from_rpc(
        [
            {**fields(row, "ip pubkey"), "pubkey": named.get(row["pubkey"], {}).get("pubkey", row["pubkey"])}
            for row in section["node_list"]
        ]
    )

    def check(item: Any) -> None:
        fields(item, "case message js_accepted", "note")
        envelope = syncmsg.record_of(SYNC_INSTALLING, item["message"]).envelope
        expect("accepted", envelope is not None and _accepted(envelope, nodes), item["js_accepted"])

    yield from each("sync_receive_batch", section["items"], check, ("case",))

    def as_batch(items: Any) -> None:
        records = [syncmsg.record_of(SYNC_INSTALLING, item["message"]).envelope for item in items]
        complete = [record for record in records if record is not None]
        verdicts = verify_records(complete, nodes)
        stored = sum(verdict is OriginVerdict.OK for verdict in verdicts)
        expect("accepted of the whole batch", stored, sum(item["js_accepted"] for item in items))

    yield one("sync_receive_batch as one batch", as_batch, section["items"])

    def unsolicited(stored: Any) -> None:
        # An answer nobody asked for falls into gossip, where its type is none that is handled.
        handled = [kind for kind in syncmsg.KINDS if kind in BY_IP_TYPES or kind == "fluxipchanged"]
        expect("stored from a peer not asked", len(handled), stored)

    if "unsolicited_peer_stored" in section:
        yield one("sync_receive_batch unsolicited", unsolicited, section["unsolicited_peer_stored"])


def _accepted(envelope: Envelope, nodes: NodeList) -> bool:
    return verify_records([envelope], nodes) == [OriginVerdict.OK]


@register("wire", "node_list_sort")
def node_list_sort(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "daemon_order js_sorted", "note name")
        entries = [
            NodeEntry(added_height=height, txhash=txhash, ip=ip, pubkey="")
            for height, txhash, ip in case["daemon_order"]
        ]
        ours = [[entry.added_height, entry.txhash, entry.ip] for entry in sorted_by_height(entries)]
        expect("order", ours, case["js_sorted"])
        walked = [entry.ip for entry in NodeList(entries).sorted_for_discovery()]
        expect("walked", walked, [ip for _, _, ip in case["js_sorted"] if ip])

    if isinstance(section, list):
        yield from each("node_list_sort", section, check)
    else:
        yield one("node_list_sort", check, section)
