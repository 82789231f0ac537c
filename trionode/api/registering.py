"""What is asked of our own users' registrations and updates (docs/spec/registry.md §10).

The rules of the network come first, in its order; then those that only the node one talks to asks for.
Every refusal is one sentence. Encrypted specifications are judged by what a secure node finds in them, and
travel closed; a node that cannot open them says so instead of judging what it cannot see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from trionode.api.answers import ApiFailure
from trionode.api.call import Call
from trionode.api.registrycall import find_current
from trionode.registry.compatibility import check_update_compatible, may_change_version
from trionode.registry.formats import format_spec
from trionode.registry.images import BlockLists, find_block
from trionode.registry.messages import AppMessage, app_message
from trionode.registry.names import name_conflict
from trionode.registry.reasons import Rejected
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
    spec, _ = await _judged(call, formatted(raw))
    found = await find_current(call, str(spec["name"]))
    with refused():
        name_conflict(str(spec["name"]), found, constants=call.context.registry.constants)
    return spec


class CheckedUpdate(msgspec.Struct, frozen=True):
    """An update in its canonical form, and the same with everything in clear; likewise what it updates."""

    spec: Spec
    clear: Spec
    previous: Spec


async def checked_update(call: Call, raw: Mapping[str, Any]) -> CheckedUpdate:
    """The same for an update. Raises ApiFailure."""
    spec, clear = await _judged(call, formatted(raw))
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
    before = await _opened(call, previous, found.height)
    if before is not None:
        with refused():
            check_update_compatible(clear, before)
    return CheckedUpdate(spec, clear, before or previous)


def is_sealed(spec: Spec) -> bool:
    """Components and contacts travel encrypted."""
    return truthy(spec.get("enterprise"))


async def _judged(call: Call, spec: Spec) -> tuple[Spec, Spec]:
    """The specification as it is signed, and with everything in clear, if it keeps the rules."""
    context = call.context
    height = context.chain.height
    clear = await _in_clear(call, spec, height)
    with refused():
        validate(clear, height, context.registry.constants)
    await _check_images(call, clear)
    if spec["version"] == SECRETS_VERSION:
        _check_secrets(spec)
    return ({**spec, "contacts": [], "compose": []} if is_sealed(spec) else spec), clear


async def _in_clear(call: Call, spec: Spec, height: int) -> Spec:
    clear = await _opened(call, spec, height)
    if clear is not None:
        return clear
    if not _can_open(call):
        raise ApiFailure("This node cannot open encrypted specifications: send this one to an Arcane node")
    raise ApiFailure(
        "The encrypted part of the specification cannot be opened: encrypt it with the key that "
        "POST /apps/getpublickey gives for this owner and name"
    )


async def _opened(call: Call, spec: Spec, height: int) -> Spec | None:
    """With everything in clear; None when this node cannot do that."""
    containers = call.context.containers
    if not is_sealed(spec):
        return spec
    if containers is None or not _can_open(call):
        return None
    opened = await containers.specs.opened({**spec, "hash": "", "height": height})
    if opened is None:
        return None
    return {name: value for name, value in opened.items() if name not in ("hash", "height")}


def _can_open(call: Call) -> bool:
    containers = call.context.containers
    return containers is not None and containers.specs.can_open


async def _check_images(call: Call, clear: Spec) -> None:
    """A node without an engine knows no image registries, only what its operator blocks."""
    context = call.context
    if context.containers is not None:
        problem = await context.containers.new_images.problem(clear)
    else:
        found = find_block(clear, "", BlockLists(operator=context.settings.hosting.blocked_repositories))
        problem = None if found is None else found.sentence
    if problem is not None:
        raise ApiFailure(problem)


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
        checked = await checked_update(call, raw)
        spec, previous = checked.spec, checked.previous
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
                system_secure=is_sealed(spec),
                decrypt=lambda _: checked.clear,
            )
    return app_message(kind, version, spec, timestamp_ms, signature)


def _number(value: Any, name: str) -> int | float:
    """Clients send numbers as numbers or as text."""
    if is_number(value):
        return int(value) if float(value).is_integer() else float(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 15:
        return int(value)
    raise ApiFailure(f"Invalid {name} of message: a number is needed, not {str(value)[:40]!r}")
