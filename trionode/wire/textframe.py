"""Text messages: timestamp prefix, body, and the JSON form of frames (docs/spec/wire.md §5)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from trionode.errors import WireError
from trionode.wire.frames import (
    NAK_NAMES,
    NAK_UNKNOWN,
    Frame,
    HashPresent,
    HashRequest,
    Nak,
    PeerExchange,
    PeerUpdate,
)
from trionode.wire.jsjson import JsonTooDeepError, JsValue, parse, stringify
from trionode.wire.jsnumber import to_number
from trionode.wire.querytext import parse_query

_HASH = re.compile(r"[0-9a-fA-F]{40}", re.ASCII).fullmatch


def split_timestamp(raw: str) -> tuple[int | None, str]:
    """Take the `T<ms>|` prefix off: (sender's time in ms or None, body).

    A prefix whose number is not finite is taken off as well, but gives None.
    """
    if raw[:1] != "T":
        return None, raw
    end = raw.find("|", 0, 16)
    if end < 2:
        return None, raw
    value = to_number(raw[1:end])
    if not value > 0:
        return None, raw
    return (int(value) if math.isfinite(value) else None), raw[end + 1 :]


def with_timestamp(text: str, now_ms: int) -> str:
    """Put the prefix on, for peers that advertise transmissionTimestamps."""
    return f"T{now_ms}|{text}"


def parse_value(text: str) -> dict[str, JsValue] | list[JsValue]:
    """JSON, else query string; whatever is neither object nor array becomes {} (also `null`, §14).

    Raises WireError only for nesting beyond our limit.
    """
    try:
        value = parse(text)
    except JsonTooDeepError:
        raise
    except WireError:
        return parse_query(text)
    return value if isinstance(value, dict | list) else {}


def parse_body(text: str) -> dict[str, JsValue]:
    """Like `parse_value`; an array, which can hold no message, becomes {} too."""
    value = parse_value(text)
    return value if isinstance(value, dict) else {}


def classify(body: dict[str, JsValue]) -> Frame | dict[str, JsValue]:
    """Tell peer-level messages (as the same values as their binary frames) from the rest.

    Raises WireError for an inventory message whose hash is not 40 hex digits: the link is then closed
    with 4016/4017.
    """
    kind = body.get("type")
    if kind == "nak":
        return Nak(_text(body.get("hash")), _nak_reason(body.get("reason")))
    if kind == "peerExchange":
        return PeerExchange(_peers(body.get("outbound")), _peers(body.get("inbound")))
    if kind == "peerUpdate":
        return PeerUpdate(
            _peers(body.get("addOutbound")), _peers(body.get("addInbound")), _peers(body.get("rm"))
        )
    if body.get("messageHashPresent"):
        return HashPresent(_hash(body["messageHashPresent"]))
    if body.get("requestMessageHash"):
        return HashRequest(_hash(body["requestMessageHash"]))
    return body


def frame_text(frame: Frame) -> str:
    """The JSON form for peers without binaryMessages. Raises WireError for sync requests (binary only)."""
    if isinstance(frame, HashPresent):
        return stringify({"messageHashPresent": frame.hash})
    if isinstance(frame, HashRequest):
        return stringify({"requestMessageHash": frame.hash})
    if isinstance(frame, Nak):
        return stringify({"type": "nak", "hash": frame.hash, "reason": frame.reason_name})
    if isinstance(frame, PeerExchange):
        return stringify(
            {"type": "peerExchange", "outbound": list(frame.outbound), "inbound": list(frame.inbound)}
        )
    if isinstance(frame, PeerUpdate):
        lists = {"addOutbound": frame.add_outbound, "addInbound": frame.add_inbound, "rm": frame.removed}
        return stringify(
            {"type": "peerUpdate", **{name: list(peers) for name, peers in lists.items() if peers}}
        )
    raise WireError("a sync request has no text form", remedy="send it only to peers with appStateSync")


def _text(value: JsValue) -> str:
    return value if isinstance(value, str) else ""


def _nak_reason(value: JsValue) -> int:
    return NAK_NAMES.index(value) if value in NAK_NAMES else NAK_UNKNOWN


def _peers(value: JsValue) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    items: Iterable[JsValue] = value
    return tuple(item for item in items if isinstance(item, str))


def _hash(value: JsValue) -> str:
    if not isinstance(value, str) or not _HASH(value):
        raise WireError(
            f"inventory hash {str(value)[:60]!r} is not 40 hex digits",
            remedy="name messages by their content hash",
        )
    return value
