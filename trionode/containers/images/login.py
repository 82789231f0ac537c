"""Getting in at an image registry: what it asks for, and tokens as long as they are good (registry.md §6).

A registry answers 401 and says how: Basic, or Bearer with a place (realm) that gives tokens. Settings:
docs/spec/config.md `images.registry_token_margin_s`.
"""

from __future__ import annotations

import base64
import re
from collections import OrderedDict
from collections.abc import Iterable

import msgspec

from trionode.containers.engine import Credentials
from trionode.containers.images.names import ImageName

DEFAULT_LIFETIME_S = 60.0
"""Of a token whose giver does not say, as registries have it."""
MOST_TOKENS = 256

_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_SCHEME = re.compile(r"\s*(basic|bearer)(?:\s+|$)", re.IGNORECASE)
_TOKEN = re.compile(r"[\x21-\x7e]{1,65536}")


class Challenge(msgspec.Struct, frozen=True):
    """How a registry wants to be asked. `realm` is where tokens are, empty for Basic."""

    bearer: bool
    realm: str = ""
    service: str = ""


class GivenToken(msgspec.Struct, frozen=True):
    """What a realm answers."""

    token: str = ""
    access_token: str = ""
    expires_in: float | None = None

    def __repr__(self) -> str:
        return "GivenToken(...)"


class Login(msgspec.Struct, frozen=True):
    """Somebody at one repository: what an authorization is good for."""

    origin: str
    repository: str
    credentials: Credentials | None


def login_of(name: ImageName, credentials: Credentials | None) -> Login:
    return Login(name.origin, name.repository, credentials)


def read_challenge(headers: Iterable[str]) -> Challenge | None:
    """The first WWW-Authenticate that we can follow."""
    for header in headers:
        scheme = _SCHEME.match(header)
        if scheme is None:
            continue
        if scheme[1].lower() == "basic":
            return Challenge(bearer=False)
        said = {
            found[1].lower(): found[2] if found[2] is not None else found[3]
            for found in _PARAMETER.finditer(header, scheme.end())
        }
        if said.get("realm"):
            return Challenge(True, said["realm"], said.get("service", ""))
    return None


def basic(credentials: Credentials) -> str:
    """The Authorization header of a name and a password."""
    pair = f"{credentials.username}:{credentials.password}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def read_token(content: bytes) -> tuple[str, float] | None:
    """The token and how long it is good, None when the answer holds none."""
    try:
        given = msgspec.json.decode(content, type=GivenToken)
    except (msgspec.DecodeError, RecursionError):
        return None
    token = given.token or given.access_token
    lifetime_s = given.expires_in
    if not _TOKEN.fullmatch(token):
        return None
    return token, lifetime_s if lifetime_s is not None and lifetime_s > 0 else DEFAULT_LIFETIME_S


class Authorizations:
    """Authorization headers that worked, each until its time is over; the oldest leave first."""

    def __init__(self, margin_s: float) -> None:
        self._margin_s = margin_s
        self._known: OrderedDict[Login, tuple[str, float]] = OrderedDict()

    def __repr__(self) -> str:
        return f"Authorizations({len(self._known)} known)"

    def find(self, login: Login, now_s: float) -> str | None:
        """The header for this login, None when there is none that is good now."""
        header, until_s = self._known.get(login, ("", now_s))
        return header if now_s < until_s else None

    def keep(self, login: Login, header: str, lifetime_s: float, now_s: float) -> None:
        """Good for its lifetime less the margin; a token that lives shorter than that, for half of it."""
        self.forget(login)
        self._known[login] = (header, now_s + max(lifetime_s - self._margin_s, lifetime_s / 2))
        while len(self._known) > MOST_TOKENS:
            self._known.popitem(last=False)

    def forget(self, login: Login) -> None:
        """It was refused."""
        self._known.pop(login, None)
