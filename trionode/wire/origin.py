"""Who may sign what: origin check and whole verdict on an envelope (docs/spec/wire.md §9 step 5, §11)."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from trionode.wire.envelope import Envelope
from trionode.wire.jsjson import truthy
from trionode.wire.nodelist import NodeEntry, NodeList
from trionode.wire.signing import verify_batch, verify_message

MAX_FUTURE_MS = 120_000

BY_IP_TYPES = frozenset(
    ("fluxapprunning", "fluxappinstalling", "fluxappinstallingerror", "fluxappremoved", "fluxnodesigterm")
)
"""Types whose signer must be the node at `data.ip`; `fluxipchanged` names it in `data.oldIP`."""


class OriginVerdict(enum.Enum):
    """Outcome of a check. Only the last three count against the socket that relayed the message."""

    OK = "ok"
    NODE_NOT_FOUND = "node not found"
    MALFORMED = "malformed"
    KEY_MISMATCH = "key mismatch"
    BAD_SIGNATURE = "bad signature"

    @property
    def is_bad_message(self) -> bool:
        """Whether the relaying socket is charged with a bad message."""
        return self in _BAD


_BAD = frozenset((OriginVerdict.MALFORMED, OriginVerdict.KEY_MISMATCH, OriginVerdict.BAD_SIGNATURE))


def check_origin(
    envelope: Envelope, nodes: NodeList, now_ms: int, *, max_future_ms: int = MAX_FUTURE_MS
) -> OriginVerdict:
    """Everything of §9 step 5 but the signature: form, time, and the signer's place in the node list.

    As §14 recommends, a timestamp that is not an integer is malformed.
    """
    if not _is_version_one(envelope) or not truthy(envelope.data.get("type")):
        return OriginVerdict.MALFORMED
    if not envelope.has_integer_timestamp or now_ms < envelope.timestamp_ms - max_future_ms:
        return OriginVerdict.MALFORMED
    kind = envelope.type
    if kind in BY_IP_TYPES:
        return _owns(nodes.by_address(envelope.data.get("ip")), envelope.pub_key)
    if kind == "fluxipchanged":
        return _owns(nodes.by_address(envelope.data.get("oldIP")), envelope.pub_key)
    return OriginVerdict.OK if nodes.has_pubkey(envelope.pub_key) else OriginVerdict.NODE_NOT_FOUND


def verify_envelope(
    envelope: Envelope, nodes: NodeList, now_ms: int, *, max_future_ms: int = MAX_FUTURE_MS
) -> OriginVerdict:
    """Origin check, then the signature (the costly part, reached only by plausible messages)."""
    verdict = check_origin(envelope, nodes, now_ms, max_future_ms=max_future_ms)
    if verdict is not OriginVerdict.OK:
        return verdict
    return verdict if is_signed(envelope) else OriginVerdict.BAD_SIGNATURE


def is_signed(envelope: Envelope) -> bool:
    """Whether the signature covers version, data and timestamp and is by `pub_key`."""
    return verify_message(envelope.signed_text, envelope.pub_key, envelope.signature)


def check_record(record: Envelope, nodes: NodeList) -> OriginVerdict:
    """The origin check for records inside sync answers (§11 Receive): no time checks, target from data."""
    if not _is_version_one(record):
        return OriginVerdict.MALFORMED
    target = record.data.get("ip")
    # an address speaks only for itself, as in gossip, also when the payload names two
    if target is None or record.type == "fluxipchanged":
        target = record.data.get("oldIP")
    if truthy(target):
        return _owns(nodes.by_address(target), record.pub_key)
    if not truthy(record.data.get("type")):
        return OriginVerdict.MALFORMED
    return OriginVerdict.OK if nodes.has_pubkey(record.pub_key) else OriginVerdict.NODE_NOT_FOUND


def verify_records(records: Sequence[Envelope], nodes: NodeList) -> list[OriginVerdict]:
    """Verdicts for a batch of sync records, in order. Pure CPU work: give it slices, or a thread."""
    verdicts = [check_record(record, nodes) for record in records]
    plausible = [place for place, verdict in enumerate(verdicts) if verdict is OriginVerdict.OK]
    signed = verify_batch(
        [
            (records[place].signed_text, records[place].pub_key, records[place].signature)
            for place in plausible
        ]
    )
    for place, valid in zip(plausible, signed, strict=True):
        if not valid:
            verdicts[place] = OriginVerdict.BAD_SIGNATURE
    return verdicts


def _is_version_one(envelope: Envelope) -> bool:
    return envelope.version == 1 and not isinstance(envelope.version, bool)


def _owns(entry: NodeEntry | None, public_key: str) -> OriginVerdict:
    if entry is None:
        return OriginVerdict.NODE_NOT_FOUND
    return OriginVerdict.OK if entry.pubkey == public_key else OriginVerdict.KEY_MISMATCH
