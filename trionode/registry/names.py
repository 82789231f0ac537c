"""Whether a registration may have its name (docs/spec/registry.md §10, name conflict).

The original also compares the name with a list that holds every current specification, so a name of the
past stays taken until the expire loop comes by. That is marked "fix": here a name is free as soon as the
app that had it has ended, or when that app was paid later than the registration in question.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from trionode.registry.constants import MAINNET, Constants
from trionode.registry.expiry import expiration_height, is_name_held
from trionode.registry.reasons import Reason, reject
from trionode.registry.rows import CurrentSpec, HashRow

RESERVED = "share"

_PLAIN = re.compile(r"[A-Za-z0-9-]*")
_QUICK = re.compile(r"[^(){*+?]*(?:[*+?][^(){*+?]*){0,2}")
"""Patterns that cannot take long: no groups or counts, at most two repeats. Others are compared literally."""


def find_named(name: str, current_by_lower_name: Mapping[str, CurrentSpec]) -> CurrentSpec | None:
    """The current specification whose name equals `name` ignoring case.

    A name is used as a pattern, as the network does. Valid names mean only themselves, so the look-up is
    one of a dictionary; anything else can only come from a caller that did not validate.
    """
    if _PLAIN.fullmatch(name):
        return current_by_lower_name.get(name.lower())
    pattern = _pattern(name)
    return next((row for row in current_by_lower_name.values() if pattern.search(row.name)), None)


def _pattern(name: str) -> re.Pattern[str]:
    literal = re.compile(rf"\A{re.escape(name)}\Z", re.IGNORECASE)
    if not _QUICK.fullmatch(name):
        return literal
    try:
        return re.compile(rf"\A{name}\Z", re.IGNORECASE)
    except re.error:
        return literal


def name_conflict(
    name: str,
    existing: CurrentSpec | None,
    *,
    hash: str | None = None,
    payment: HashRow | None = None,
    builtin_names: Iterable[str] = (),
    constants: Constants = MAINNET,
) -> None:
    """Raise Rejected when a registration may not have `name`.

    `existing` is what `find_named` gave. `hash` is that of the registration, None while its owner only
    asks whether the name is free; `payment` is its row of the chain, None when not paid. `builtin_names`
    are apps that only this node knows.
    """
    if existing is not None:
        if hash is None:
            reject(Reason.NAME_TAKEN, "name", name)
        if payment is None:
            reject(Reason.NAME_TAKEN_HASH_UNKNOWN, "name", name)
        if existing.height <= payment.height:
            end = expiration_height(existing.height, existing.spec().get("expire"), constants)
            if is_name_held(end, payment.height):
                reject(Reason.NAME_TAKEN_ACTIVE, "name", name, end)
    lower = name.lower()
    if any(lower == builtin.lower() for builtin in builtin_names):
        reject(Reason.NAME_TAKEN_LOCAL_LIST, "name", name)
    if lower == RESERVED:
        reject(Reason.NAME_RESERVED_SHARE, "name", name)
