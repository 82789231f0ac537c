"""Login phrases, sessions and pending signatures, in memory (docs/spec/api.md §2.2).

All of them are wiped at each process start by definition, so nothing is stored. Phrases are handed
out to anyone, therefore every table is bounded; when full, the oldest entry goes.
"""

from __future__ import annotations

import random
import string
from collections import OrderedDict

import msgspec

from trionode.config.tree import ApiSettings
from trionode.runtime.clock import WallClock

ALPHABET = string.digits + string.ascii_lowercase
RANDOM_CHARS = 45
MAX_PHRASES = 20_000
MAX_SESSIONS = 5_000
MAX_SIGNATURES = 2_000


class Session(msgspec.Struct, frozen=True):
    """One signed-in identity; times in wall-clock ms."""

    flux_id: str
    login_phrase: str
    created_ms: int
    expires_ms: int


class PendingSignature(msgspec.Struct, frozen=True):
    """An unverified signature left for a program that waits for it (`providesign`)."""

    identifier: str
    signature: str
    expires_ms: int


class Sessions:
    """The three tables. `rng` must be a secure source (`random.SystemRandom()`) in a real node.

    `operator_id`: whose sessions, like the team's, make room last when the table is full.
    """

    def __init__(
        self, settings: ApiSettings, clock: WallClock, rng: random.Random, *, operator_id: str = ""
    ) -> None:
        self._kept_longest = {settings.team_id, settings.support_id, operator_id}
        self._phrase_ttl_ms = round(settings.login_phrase_ttl_s * 1000)
        self._session_ttl_ms = round(settings.session_days * 86_400_000)
        self._clock = clock
        self._rng = rng
        self._phrases: OrderedDict[str, int] = OrderedDict()
        self._sessions: OrderedDict[tuple[str, str], Session] = OrderedDict()
        self._signatures: OrderedDict[str, PendingSignature] = OrderedDict()

    @property
    def phrase_ttl_ms(self) -> int:
        return self._phrase_ttl_ms

    def new_phrase(self) -> str:
        """A fresh phrase: 13-digit time + 45 random lower-case base-36 characters."""
        now = self._clock.now_ms()
        phrase = f"{now:013d}" + "".join(self._rng.choices(ALPHABET, k=RANDOM_CHARS))
        self._drop_old_phrases(now)
        while len(self._phrases) >= MAX_PHRASES:
            self._phrases.popitem(last=False)
        self._phrases[phrase] = now
        return phrase

    def _drop_old_phrases(self, now: int) -> None:
        while self._phrases:
            phrase, made = next(iter(self._phrases.items()))
            if made + self._phrase_ttl_ms >= now:
                return
            del self._phrases[phrase]

    def knows_phrase(self, phrase: str) -> bool:
        """Was the phrase given out by this node, not used and not older than its life?"""
        made = self._phrases.get(phrase)
        return made is not None and made + self._phrase_ttl_ms >= self._clock.now_ms()

    def phrases(self) -> list[tuple[str, int, int]]:
        """(phrase, created ms, expires ms) of every live phrase, oldest first."""
        self._drop_old_phrases(self._clock.now_ms())
        return [(phrase, made, made + self._phrase_ttl_ms) for phrase, made in self._phrases.items()]

    def open(self, flux_id: str, phrase: str, created_ms: int) -> Session:
        """Consume the phrase and open a session that counts from the phrase's own time."""
        self._phrases.pop(phrase, None)
        session = Session(flux_id, phrase, created_ms, created_ms + self._session_ttl_ms)
        while len(self._sessions) >= MAX_SESSIONS:
            self._make_room()
        self._sessions[flux_id, phrase] = session
        return session

    def _make_room(self) -> None:
        """Drop the oldest session; throw-away identities must not sign the operator out."""
        oldest = next((key for key in self._sessions if key[0] not in self._kept_longest), None)
        del self._sessions[oldest if oldest is not None else next(iter(self._sessions))]

    def find(self, flux_id: str, phrase: str) -> Session | None:
        """The live session of this identity and phrase."""
        session = self._sessions.get((flux_id, phrase))
        if session is not None and session.expires_ms <= self._clock.now_ms():
            del self._sessions[flux_id, phrase]
            return None
        return session

    def all(self, flux_id: str | None = None) -> list[Session]:
        """Live sessions, of one identity or of everybody."""
        now = self._clock.now_ms()
        return [
            session
            for session in self._sessions.values()
            if session.expires_ms > now and flux_id in (None, session.flux_id)
        ]

    def close(self, flux_id: str, phrase: str) -> bool:
        """End one session; False when there was none."""
        return self._sessions.pop((flux_id, phrase), None) is not None

    def close_all(self, flux_id: str | None = None) -> int:
        """End all sessions of one identity, or of everybody; returns how many."""
        doomed = [key for key in self._sessions if flux_id in (None, key[0])]
        for key in doomed:
            del self._sessions[key]
        return len(doomed)

    def leave_signature(self, identifier: str, signature: str) -> PendingSignature:
        """Keep an unverified signature for the phrase's life."""
        expires = self._clock.now_ms() + self._phrase_ttl_ms
        pending = PendingSignature(identifier, signature, expires)
        self._signatures.pop(identifier, None)
        while len(self._signatures) >= MAX_SIGNATURES:
            self._signatures.popitem(last=False)
        self._signatures[identifier] = pending
        return pending

    def take_signature(self, identifier: str) -> PendingSignature | None:
        """The signature left under `identifier`, once."""
        pending = self._signatures.pop(identifier, None)
        if pending is None or pending.expires_ms <= self._clock.now_ms():
            return None
        return pending
