"""Signed app messages of a few owners, and the payments for them."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

from appspecs import spec

from trionode.registry.messages import app_message, message_document, signed_text
from trionode.registry.rows import HashRow, PermanentRow
from trionode.wire.jsjson import stringify
from trionode.wire.keys import NodeKey

TIMESTAMP_MS = 1_750_000_000_000
VALUE_SAT = 10_000_000_000
APP_TYPES = {True: "fluxappregister", False: "fluxappupdate"}


@cache
def owner(number: int = 0) -> NodeKey:
    return NodeKey.generate(random.Random(number), compressed=True)


def signed(
    *,
    name: str = "SpecApp8",
    registers: bool = True,
    by: NodeKey | None = None,
    for_owner: NodeKey | None = None,
    at_ms: int = TIMESTAMP_MS,
    version: int = 8,
    **changes: Any,
) -> dict[str, Any]:
    """A message as it travels; `by` signs it, `for_owner` (the same unless told) is whom it names."""
    by = by or owner()
    app = spec(version, name=name, owner=(for_owner or by).address, **changes)
    kind = APP_TYPES[registers]
    signature = by.sign(signed_text(kind, 1, stringify(app), at_ms))
    return message_document(app_message(kind, 1, app, at_ms, signature))


def paid(document: dict[str, Any], height: int, value_sat: int = VALUE_SAT) -> HashRow:
    """Our own row of the chain for a message."""
    return HashRow.found(f"tx of {document['hash']}", height, document["hash"], value_sat)


def served(document: dict[str, Any], height: int) -> dict[str, Any]:
    """The message as a peer serves it in its list; what it says of the payment is a lie."""
    return {**document, "txid": "lie", "height": height + 77, "valueSat": 1}


def permanent(document: dict[str, Any], height: int, value_sat: int = VALUE_SAT) -> PermanentRow:
    app = document["appSpecifications"]
    return PermanentRow(
        document["hash"],
        document["type"],
        document["version"],
        stringify(app),
        app["name"],
        app["owner"],
        document["timestamp"],
        document["signature"],
        f"tx of {document['hash']}",
        height,
        value_sat,
    )
