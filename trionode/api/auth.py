"""Who is calling, and may they: credentials and levels of docs/spec/api.md §2.

A level is decided from the `zelidauth` header alone. Every request re-verifies the signature; the
levels of the node's own people also need a session that was opened at this very node.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

import msgspec

from trionode.api.levels import OF_AN_APP, Level
from trionode.api.sessions import Sessions
from trionode.config.tree import Settings
from trionode.errors import WireError
from trionode.runtime.clock import WallClock
from trionode.wire import jsjson
from trionode.wire.ethereum import verify_personal
from trionode.wire.signing import verify_message

USER_PHRASE_AGE_MS = 16 * 3_600_000
OWNER_PHRASE_AGE_MS = 2 * 3_600_000
PHRASE_LENGTHS = range(40, 71)
HEADER_LIMIT_CHARS = 4096
TIME_DIGITS = 13

BITCOIN_ADDRESS = re.compile(r"1[1-9A-HJ-NP-Za-km-z]{24,33}", re.ASCII)
ETHEREUM_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)


class Credentials(msgspec.Struct, frozen=True):
    """The parsed `zelidauth` header; nothing in it is verified yet."""

    flux_id: str
    login_phrase: str
    signature: str


def is_flux_id(text: str) -> bool:
    """True for the two forms of a Flux ID (§2.1)."""
    return bool(BITCOIN_ADDRESS.fullmatch(text) or ETHEREUM_ADDRESS.fullmatch(text))


def parse_credentials(header: str) -> Credentials | None:
    """Credentials from the header's query-string or JSON form; None when any part is missing."""
    if not header or len(header) > HEADER_LIMIT_CHARS:
        return None
    members: dict[str, object]
    if header.lstrip().startswith("{"):
        try:
            parsed = jsjson.parse(header)
        except WireError:
            return None
        members = dict(parsed) if isinstance(parsed, dict) else {}
    else:
        try:
            members = dict(parse_qsl(header, keep_blank_values=True, max_num_fields=16))
        except ValueError:
            return None
    found = [members.get(name) for name in ("zelid", "loginPhrase", "signature")]
    texts = [value for value in found if isinstance(value, str) and value]
    return Credentials(*texts) if len(texts) == 3 else None


def signed_by(message: str, flux_id: str, signature: str) -> bool:
    """True when the identity signed the message, by the scheme its form implies (§2.2)."""
    if ETHEREUM_ADDRESS.fullmatch(flux_id):
        return verify_personal(message, flux_id, signature)
    return verify_message(message, flux_id, signature)


def phrase_time_ms(phrase: str) -> int | None:
    """The time a login phrase begins with, None when it does not begin with 13 digits."""
    digits = phrase[:TIME_DIGITS]
    return int(digits) if len(digits) == TIME_DIGITS and digits.isascii() and digits.isdigit() else None


class Authority:
    """Decides levels for one node."""

    def __init__(self, settings: Settings, sessions: Sessions, clock: WallClock) -> None:
        self._admin_id = settings.node.operator_id
        self._team_ids = frozenset(filter(None, (settings.api.team_id, settings.api.support_id)))
        self._team_id = settings.api.team_id
        self._sessions = sessions
        self._clock = clock

    def is_admin(self, flux_id: str) -> bool:
        return bool(self._admin_id) and flux_id == self._admin_id

    def is_team(self, flux_id: str) -> bool:
        return flux_id in self._team_ids

    def privilege_at_login(self, flux_id: str) -> str:
        """`fluxteam`, else `admin`, else `user`, in this order (§2.2)."""
        if self.is_team(flux_id):
            return "fluxteam"
        return "admin" if self.is_admin(flux_id) else "user"

    def allows(self, level: Level, credentials: Credentials | None) -> bool:
        """Does the caller reach `level`?"""
        if level is Level.PUBLIC:
            return True
        if credentials is None:
            return False
        if level is Level.USER:
            return self._is_recent(credentials, USER_PHRASE_AGE_MS) and self._proves(credentials)
        if level in OF_AN_APP:
            return self.allows_for_app(level, credentials, None)
        may = {
            Level.ADMIN: self.is_admin(credentials.flux_id),
            Level.TEAM: self.is_team(credentials.flux_id),
            Level.ADMIN_OR_TEAM: self.is_admin(credentials.flux_id) or self.is_team(credentials.flux_id),
        }[level]
        return may and self._has_session(credentials) and self._proves(credentials)

    def allows_for_app(self, level: Level, credentials: Credentials | None, owner: str | None) -> bool:
        """Does the caller reach a level that depends on an app? `owner` None: there is no such app here.

        A phrase of the last two hours will do, for nodes pass commands of owners on to one another.
        """
        if credentials is None:
            return False
        caller = credentials.flux_id
        may = owner is not None and _same_id(caller, owner)
        if level is Level.OWNER_OR_ABOVE:
            may = may or self.is_admin(caller) or self.is_team(caller)
        return may and self._is_recent(credentials, OWNER_PHRASE_AGE_MS) and self._proves(credentials)

    def _is_recent(self, credentials: Credentials, age_ms: int) -> bool:
        """A session at this node, or a phrase of any node that is not older."""
        if self._has_session(credentials):
            return True
        made = phrase_time_ms(credentials.login_phrase)
        if made is None or len(credentials.login_phrase) not in PHRASE_LENGTHS:
            return False
        return 0 <= self._clock.now_ms() - made <= age_ms

    def _has_session(self, credentials: Credentials) -> bool:
        return self._sessions.find(credentials.flux_id, credentials.login_phrase) is not None

    @staticmethod
    def _proves(credentials: Credentials) -> bool:
        return signed_by(credentials.login_phrase, credentials.flux_id, credentials.signature)


def _same_id(left: str, right: str) -> bool:
    """Hexadecimal addresses are the same in any letter case."""
    if ETHEREUM_ADDRESS.fullmatch(left):
        return left.lower() == right.lower()
    return left == right
