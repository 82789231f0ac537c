"""What honest nodes have said, and what everybody should therefore list: the judge of agreement.

Every text an honest node signs is heard here at the moment of signing, wherever it goes afterwards. The
view of all of them together (`appstate.view`, docs/spec/events.md §6) is what an honest node must list of
honest addresses, at the time of its own clock, except for what the network's rules let it miss:

- While faults last, and for as long afterwards as a record lives, a node may not have heard of something
  that was said while it was down, cut off, without confirmation, or in a storm. Nothing is said twice but
  the hourly list, so that a missed removal or goodbye ends with the record it was about.
- A listed node's last list must have reached everybody `DELIVERY_S` after it was signed in calm, and a
  record of a gone node must be gone when its time is over. After the life of a record in calm there is
  therefore nothing left to miss, and equality is demanded of whole rows.
- What liars say of themselves may differ from node to node, since they may tell everybody something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from trionode.appstate.documents import APPREMOVED, APPRUNNING, IPCHANGED, SIGTERM
from trionode.appstate.view import Document
from trionode.appstate.windows import Windows
from trionode.sim.invariants import Fingerprint, actual_locations, fingerprint_of
from trionode.sim.node import SimNode
from trionode.wire.jsjson import parse

DELIVERY_S = 60.0
"""Seven hops at most, each with up to three liars that are asked first and never answer (3 s each)."""

SIGNED = re.compile(r"1(\{.*\})([0-9]{13})", re.DOTALL)
TYPES = {
    "fluxapprunning": APPRUNNING,
    "fluxappremoved": APPREMOVED,
    "fluxnodesigterm": SIGTERM,
    "fluxipchanged": IPCHANGED,
}


class Said(msgspec.Struct, frozen=True):
    """One message about apps, as an honest node signed it."""

    speaker: int
    key: tuple[str, str, str]
    at_ms: int
    text: str


class Honest:
    """All messages of honest nodes in one place."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self._newest: dict[tuple[str, str, str], Document] = {}
        self.texts: dict[str, int] = {}
        """Every text that was signed, and by whom."""
        self.said: list[Said] = []

    def hear(self, speaker: int, signed: str) -> Said | None:
        """An honest node signs a text; None if it is not about apps."""
        found = SIGNED.fullmatch(signed)
        if found is None:
            return None
        text = found[1]
        data = parse(text)
        kind = TYPES.get(str(data.get("type"))) if isinstance(data, dict) else None
        if kind is None or not isinstance(data, dict):
            return None
        self.texts[text] = speaker
        ip = str(data["oldIP"] if kind == IPCHANGED else data["ip"])
        dedup_key = {
            APPRUNNING: "v2",
            APPREMOVED: f"appremoved:{data.get('appName')}",
            SIGTERM: "sigterm",
            IPCHANGED: "ipchanged",
        }[kind]
        at_ms = int(data["broadcastedAt"])
        said = Said(speaker, (ip, kind, dedup_key), at_ms, text)
        self.said.append(said)
        last = self._newest.get(said.key)
        if last is None or at_ms > last.at_ms:
            expire_at_ms = at_ms + self._windows.running_ms
            self._newest[said.key] = Document(kind, ip, at_ms, expire_at_ms, data, dedup_key)
        return said

    def expected(self, now_ms: int) -> Fingerprint:
        """What a node that heard everything lists when its clock shows this."""
        documents = [event for event in self._newest.values() if event.expire_at_ms > now_ms]
        return fingerprint_of(documents, now_ms, None, self._windows.sigterm_grace_ms)

    def difference(self, node: SimNode, addresses: Iterable[str]) -> str | None:
        """How a node's list of these addresses differs from what it should be; None if it does not."""
        honest = frozenset(addresses)
        rows = [row for row in node.running.log.index.locations() if row.ip in honest]
        actual = actual_locations(rows)
        expected = self.expected(node.clock.now_ms())
        if actual == expected:
            return None
        missing = [row[:4] for row in expected if row not in actual]
        surplus = [row[:4] for row in actual if row not in expected]
        return f"{node.name} does not list {missing[:3]}, but lists {surplus[:3]}"
