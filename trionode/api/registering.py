"""What is asked of our own users' registrations and updates (docs/spec/registry.md §10).

The rules of the network come first, in its order; then those that only the node one talks to asks for.
Every refusal is one sentence. Enterprise specifications are taken as they are: this node cannot open
them, and says so instead of judging what it cannot see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from trionode.api.answers import ApiFailure
from trionode.api.call import Call
from trionode.api.registrycall import find_current
from trionode.registry.compatibility import check_update_compatible, may_change_version
from trionode.registry.formats import format_spec
from trionode.registry.images import BlockLists, find_block
from trionode.registry.messages import AppMessage, app_message
from trionode.registry.names import name_conflict
from trionode.registry.reasons import Rejected
from trionode.registry.rows import CurrentSpec
from trionode.registry.signatures import check_registration, check_update
from trionode.registry.validation import validate
from trionode.wire.jsjson import is_number, truthy

Spec = dict[str, Any]

MESSAGE_VERSION = 1
OLDEST_MS = 3_600_000
NEWEST_MS = 300_000
SECRETS_VERSION = 7


@contextmanager
def refused() -> Iterator[None]:
    """Turn a refusal of the rules into the answer that tells it."""
    try:
        yield
    except Rejected as error:
        raise ApiFailure(error.message, name=str(error.reason)) from error


def formatted(body: Mapping[str, Any]) -> Spec:
    """The specification of a body in its canonical form. Raises ApiFailure."""
    if not body:
        raise ApiFailure("No specification given")
    with refused():
        return format_spec(dict(body))


# ---- specifications ------------------------------------------------------------------------------------


async def checked_registration(call: Call, raw: Mapping[str, Any]) -> Spec:
    """The canonical form of a specification that may be registered now. Raises ApiFailure."""
    spec = formatted(raw)
    _check_rules(call, spec)
    found = await find_current(call, str(spec["name"]))
    with refused():
        name_conflict(str(spec["name"]), found, constants=call.context.registry.constants)
    return spec


async def checked_update(call: Call, raw: Mapping[str, Any]) -> tuple[Spec, CurrentSpec]:
    """The same for an update, and what it updates. Raises ApiFailure."""
    spec = formatted(raw)
    _check_rules(call, spec)
    found = await find_current(call, str(spec["name"]))
    if found is None:
        raise ApiFailure(f"There is no app {spec['name']!r} to update: register it, or check the name")
    previous = found.spec()
    if not may_change_version(spec, previous):
        latest = call.context.registry.constants.registry.latest_spec_version
        raise ApiFailure(
            f"An update may keep specification version {previous['version']} or change to {latest}, "
            f"not to {spec['version']}"
        )
    if not is_sealed(spec) and not is_sealed(previous):
        with refused():
            check_update_compatible(spec, previous)
    return spec, found


def is_sealed(spec: Spec) -> bool:
    """Components and contacts travel encrypted."""
    return truthy(spec.get("enterprise"))


def _check_rules(call: Call, spec: Spec) -> None:
    if is_sealed(spec):
        raise ApiFailure("This node cannot open encrypted specifications: send this one to an Arcane node")
    context = call.context
    with refused():
        validate(spec, context.chain.height, context.registry.constants)
    lists = BlockLists(operator=context.settings.hosting.blocked_repositories)
    found = find_block(spec, "", lists)
    if found is not None:
        raise ApiFailure(found.sentence)
    if spec["version"] == SECRETS_VERSION:
        _check_secrets(spec)


def _check_secrets(spec: Spec) -> None:
    """No secret twice in one app: an encrypted value belongs to one component."""
    secrets = [part["secrets"] for part in spec["compose"] if part["secrets"]]
    if len(set(secrets)) != len(secrets):
        raise ApiFailure("Provided secrets are not unique: every component needs its own")


# ---- messages ------------------------------------------------------------------------------------------


async def read_message(call: Call, types: frozenset[str], now_ms: int) -> AppMessage:
    """The signed message of a request, judged whole: ready to be sent to the network. Raises ApiFailure."""
    body = call.body
    raw = body.get("appSpecification")
    for name in ("appSpecification", "timestamp", "signature", "type", "version"):
        if not truthy(body.get(name)):
            raise ApiFailure(f"Incomplete message: {name} is missing")
    kind, version = body["type"], _number(body["version"], "version")
    timestamp_ms = _number(body["timestamp"], "timestamp")
    signature = body["signature"]
    if not isinstance(signature, str):
        raise ApiFailure("Invalid signature: a text is needed")
    if kind not in types:
        raise ApiFailure(f"Invalid type of message: {' or '.join(sorted(types))} is needed, not {kind!r}")
    if version != MESSAGE_VERSION:
        raise ApiFailure(f"Invalid version of message: {MESSAGE_VERSION} is needed, not {version}")
    if timestamp_ms < now_ms - OLDEST_MS:
        raise ApiFailure(
            "Message timestamp is over 1 hour old, not valid. Check if your computer clock is synced"
        )
    if timestamp_ms > now_ms + NEWEST_MS:
        raise ApiFailure("Message timestamp from future, not valid. Check if your computer clock is synced")
    if not isinstance(raw, dict):
        raise ApiFailure("appSpecification is no object")
    constants = call.context.registry.constants
    height = call.context.chain.height
    if "fluxappregister" in types:
        spec = await checked_registration(call, raw)
        with refused():
            check_registration(kind, version, spec, timestamp_ms, signature)
    else:
        spec, found = await checked_update(call, raw)
        previous = found.spec()
        with refused():
            check_update(
                kind,
                version,
                spec,
                timestamp_ms,
                signature,
                previous_owner=str(previous["owner"]),
                height=height,
                previous_spec=previous,
                constants=constants,
            )
    return app_message(kind, version, spec, timestamp_ms, signature)


def _number(value: Any, name: str) -> int | float:
    """Clients send numbers as numbers or as text."""
    if is_number(value):
        return int(value) if float(value).is_integer() else float(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 15:
        return int(value)
    raise ApiFailure(f"Invalid {name} of message: a number is needed, not {str(value)[:40]!r}")
