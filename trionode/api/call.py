"""One request as a handler sees it: parameters, body and caller, free of the web framework.

Input rules: docs/spec/api.md §1.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from werkzeug.datastructures import Headers

from trionode.api.answers import ApiFailure
from trionode.api.auth import Authority, Credentials
from trionode.api.context import ApiContext
from trionode.api.levels import Level
from trionode.api.sessions import Sessions
from trionode.errors import WireError
from trionode.wire import jsjson, querytext

TRUE_TEXTS = frozenset({"true", "1"})
FALSE_TEXTS = frozenset({"false", "0"})
FORM_FIELDS_LIMIT = 1000


class Call(msgspec.Struct, frozen=True):
    """A parsed request. `remote_ip` is the caller's socket address without an IPv6-mapped prefix."""

    context: ApiContext
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Headers
    body: Mapping[str, Any]
    remote_ip: str
    credentials: Credentials | None
    authority: Authority
    sessions: Sessions

    def allowed(self, level: Level) -> bool:
        """Does the caller reach `level`? For routes whose answer depends on it."""
        return self.authority.allows(level, self.credentials)

    def text(self, name: str, default: str = "") -> str:
        """A parameter from the path or, if absent there, from the query string."""
        found = self.path.get(name) or self.query.get(name)
        return found if found else default

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean parameter; raises ApiFailure when it is neither of the accepted texts."""
        found = self.text(name).lower()
        if not found:
            return default
        if found in TRUE_TEXTS:
            return True
        if found in FALSE_TEXTS:
            return False
        raise ApiFailure(f"Parameter {name} must be true or false, not {found!r}")

    def number(self, name: str, *, default: int, low: int, high: int) -> int:
        """A whole-number parameter within `low..high`; raises ApiFailure otherwise."""
        found = self.text(name)
        if not found:
            return default
        if not (found.isascii() and found.isdigit() and len(found) <= 15 and low <= int(found) <= high):
            raise ApiFailure(f"Parameter {name} must be a number from {low} to {high}, not {found[:40]!r}")
        return int(found)

    def body_text(self, *names: str) -> str:
        """The first of the named body members that is a non-empty text; "" when there is none."""
        for name in names:
            value = self.body.get(name)
            if isinstance(value, str) and value:
                return value
        return ""


def parse_body(raw: bytes, content_type: str) -> dict[str, Any]:
    """Body members in received order: JSON, then (unless declared JSON) a query string.

    Established clients send JSON text as text/plain or form data, so the declared type only decides
    whether broken JSON is an error (HTTP 400) or tried as a form.
    """
    if not raw.strip():
        return {}
    declared_json = content_type.split(";")[0].strip().lower().endswith("json")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise ApiFailure(f"Body is not UTF-8 text: {error.reason}", http_status=400) from error
    try:
        value = jsjson.parse(text)
    except WireError as error:
        if declared_json:
            raise ApiFailure(f"Body is not valid JSON: {error.message}", http_status=400) from error
        return dict(querytext.parse_query(text))
    if isinstance(value, dict):
        return dict(value)
    if declared_json:
        raise ApiFailure("Body must be a JSON object", http_status=400)
    return dict(querytext.parse_query(text))


def parse_query(text: str) -> dict[str, str]:
    """Query parameters; of a repeated name the first counts."""
    found: dict[str, str] = {}
    try:
        for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=FORM_FIELDS_LIMIT):
            found.setdefault(name, value)
    except ValueError as error:
        raise ApiFailure(f"More than {FORM_FIELDS_LIMIT} query parameters", http_status=400) from error
    return found
