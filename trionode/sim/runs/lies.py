"""What liars say: forged, altered, relabelled and outsized messages, made of what they overheard."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import msgspec

from trionode.errors import WireError
from trionode.wire.envelope import Envelope, decode_envelope, seal, sealed_text
from trionode.wire.frames import SYNC_INSTALL_ERRORS, SYNC_INSTALLING, SYNC_RUNNING
from trionode.wire.jsjson import JsValue, parse, stringify
from trionode.wire.keys import NodeKey
from trionode.wire.syncmsg import chunk_data_text, envelope_fields_text, event_item_text, iso_text

TYPES = ("apprunning", "sigterm", "appremoved", "ipchanged")
TOO_MANY = 2_600


class Lies:
    """Makes texts. `overheard` grows meanwhile; `victims` are the addresses of honest nodes."""

    def __init__(
        self, ip: str, key: NodeKey, rng: random.Random, overheard: Sequence[str], victims: Sequence[str]
    ) -> None:
        self._ip = ip
        self._key = key
        self._rng = rng
        self._overheard = overheard
        self._victims = victims

    # --- gossip -----------------------------------------------------------------------------

    def by_a_wrong_key(self, now_ms: int) -> str:
        """A message in the name of an honest node, signed by us."""
        victim = self._rng.choice(self._victims)
        kind = self._rng.choice(("fluxapprunning", "fluxnodesigterm", "fluxappremoved"))
        return seal(_message(kind, victim, now_ms, "forged"), self._key, now_ms).text

    def forged_copy(self) -> str | None:
        """Something overheard with other content or time under the old signature."""
        envelope = self._any_envelope()
        if envelope is None:
            return None
        if self._rng.random() < 0.5:
            later_ms = envelope.timestamp_ms + self._rng.randrange(1, 50_000)
            return msgspec.structs.replace(envelope, timestamp=later_ms).text
        data: dict[str, JsValue] = {**envelope.data, "broadcastedAt": envelope.timestamp_ms + 1}
        return msgspec.structs.replace(envelope, data=data, data_text=stringify(data)).text

    def of_itself(self, at_ms: int, name: str) -> str:
        """A running message of ours, rightly signed."""
        return seal(_message("fluxapprunning", self._ip, at_ms, name), self._key, at_ms).text

    def new_name(self, at_ms: int) -> str:
        """A message of ours about something that nobody has ever heard of."""
        kind = self._rng.choice(
            ("fluxappremoved", "fluxappinstalling", "fluxappinstallingerror", "fluxapprunning")
        )
        data = _message(kind, self._ip, at_ms, f"new{self._rng.randrange(1 << 40)}")
        return seal(data, self._key, at_ms).text

    def announcements(self) -> Iterator[bytes]:
        """Announcements of what we overheard."""
        for text in list(self._overheard)[-5:]:
            envelope = _read(text)
            if envelope is not None:
                yield b"\x01" + bytes.fromhex(envelope.data_hash)

    # --- sync -------------------------------------------------------------------------------

    def sync_answer(self, kind: int, tricks: Sequence[str], now_ms: int) -> Iterator[str]:
        """Chunks that answer a request of this kind."""
        items: list[str] = []
        if kind == SYNC_RUNNING:
            if "replay" in tricks:
                items += self._records(relabel=False)
            if "relabel" in tricks:
                items += self._records(relabel=True)
            if "forge" in tricks:
                items += self._forged_records()
            if "evict" in tricks:
                items += self._evictions(now_ms)
            if "oversize" in tricks and items:
                items = (items * (TOO_MANY // len(items) + 1))[:TOO_MANY]
        elif kind in (SYNC_INSTALLING, SYNC_INSTALL_ERRORS) and "relabel" in tricks:
            items = [text for text in self._overheard if '"fluxapprunning"' in text]
        if "hollow" in tricks:
            return  # nothing at all is an answer, too
        yield sealed_text(chunk_data_text(kind, items, done=True), self._key, now_ms)
        if "empty" in tricks:
            yield sealed_text(chunk_data_text(kind, [], done=True), self._key, now_ms)

    def _records(self, *, relabel: bool) -> list[str]:
        items = []
        for text in list(self._overheard):
            envelope = _read(text)
            ip = envelope.data.get("ip") if envelope is not None else None
            at_ms = envelope.data.get("broadcastedAt") if envelope is not None else None
            if envelope is None or not isinstance(ip, str) or not isinstance(at_ms, int):
                continue
            label = self._rng.choice(TYPES) if relabel else TYPES[0]
            place = self._rng.choice((ip, self._rng.choice(self._victims))) if relabel else ip
            later_ms = at_ms + (self._rng.choice((0, 60_000)) if relabel else 0)
            items.append(
                event_item_text(
                    place,
                    label,
                    "v2" if label == TYPES[0] else label,
                    broadcasted_at_ms=later_ms,
                    data_text=envelope.data_text,
                    envelope_text=envelope_fields_text(envelope),
                )
            )
        return items

    def _forged_records(self) -> list[str]:
        """Records with altered content under a true signature."""
        copies = [_read(self.forged_copy() or "") for _ in range(5)]
        return [
            event_item_text(
                str(copy.data["ip"]),
                TYPES[0],
                "v2",
                broadcasted_at_ms=copy.timestamp_ms,
                data_text=copy.data_text,
                envelope_text=envelope_fields_text(copy),
            )
            for copy in copies
            if copy is not None and copy.type == "fluxapprunning"
        ]

    def _evictions(self, now_ms: int) -> list[str]:
        shifts_ms = (-600_000, 0, 0, 600_000)
        return [
            event_item_text(ip, "evicted", "evicted", created_at_ms=now_ms + self._rng.choice(shifts_ms))
            for ip in self._rng.sample(list(self._victims), min(4, len(self._victims)))
        ]

    def _any_envelope(self) -> Envelope | None:
        known = list(self._overheard)
        return _read(self._rng.choice(known)) if known else None


def _message(kind: str, ip: str, at_ms: int, name: str) -> dict[str, JsValue]:
    common: dict[str, JsValue] = {"type": kind, "version": 1, "ip": ip, "broadcastedAt": at_ms}
    if kind == "fluxappremoved":
        return {**common, "appName": name}
    if kind == "fluxnodesigterm":
        return common
    if kind == "fluxappinstalling":
        return {**common, "name": name}
    if kind == "fluxappinstallingerror":
        return {**common, "name": name, "hash": "0" * 64, "error": "it does not fit"}
    apps: list[JsValue] = [{"name": name, "hash": "0" * 64, "runningSince": iso_text(at_ms)}]
    return {**common, "version": 2, "apps": apps, "osUptime": 1, "staticIp": False}


def _read(text: str) -> Envelope | None:
    try:
        envelope = decode_envelope(parse(text))
    except WireError:
        return None
    return envelope if envelope.has_integer_timestamp else None
