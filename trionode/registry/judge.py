"""Judge app messages offline and whole: shape, format, hash, signature, rules (docs/spec/registry.md §4-§6).

For people who hold a message in a file and ask whether the network would take it. What cannot be known
without the chain or the app's history is said to be unknown, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import msgspec

from trionode.registry.compatibility import check_update_compatible
from trionode.registry.constants import MAINNET, Constants
from trionode.registry.formats import format_spec
from trionode.registry.messages import (
    LEGACY_SPEC_KEY,
    MESSAGE_TYPES,
    SPEC_KEY,
    AppMessage,
    message_hash,
    message_hash_ok,
    read_app_message,
    signed_text,
    spec_of,
)
from trionode.registry.reasons import Reason, Rejected, Rejection
from trionode.registry.signatures import Signer, check_registration, check_update, verify_signature
from trionode.registry.validation import validate
from trionode.wire.jsjson import JsValue, stringify, truthy

Step = Literal["shape", "format", "hash", "signature", "rules", "update"]
Outcome = Literal["passed", "failed", "unknown"]
Spec = dict[str, Any]

_NO_HEIGHT_LIMIT = 2**53


class Verdict(msgspec.Struct, frozen=True):
    """The outcome of one step and what to tell a person; `rejection` when it failed."""

    step: Step
    outcome: Outcome
    said: str
    rejection: Rejection | None = None


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """All verdicts on one message in the order of the steps; steps that made no sense are absent."""

    name: str = ""
    type: str = ""
    hash: str = ""
    height: int | None = None
    verdicts: tuple[Verdict, ...]
    spec: Spec | None = None

    @property
    def accepted(self) -> bool:
        """Nothing failed; steps may still be unknown."""
        return all(verdict.outcome != "failed" for verdict in self.verdicts)

    def as_document(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "name": self.name,
            "type": self.type,
            "hash": self.hash,
            "height": self.height,
            "accepted": self.accepted,
            "verdicts": [
                {
                    "step": verdict.step,
                    "outcome": verdict.outcome,
                    "said": verdict.said,
                    "rejection": verdict.rejection.as_document() if verdict.rejection else None,
                }
                for verdict in self.verdicts
            ],
        }


def _tried(step: Step, rule: Callable[[], str]) -> Verdict:
    """Run a rule that raises Rejected or says what it found."""
    try:
        return Verdict(step, "passed", rule())
    except Rejected as error:
        return Verdict(step, "failed", error.message, error.rejection)


# ---- one message -------------------------------------------------------------------------------------


def judge_message(
    document: JsValue,
    *,
    height: int | None = None,
    previous: Spec | None = None,
    constants: Constants = MAINNET,
) -> Judgement:
    """Judge one message or stored row.

    `height` is that of its payment (a row brings its own), `previous` the canonical specification an
    update replaces.
    """
    if height is None:
        height = _height_of(document)
    try:
        message = read_app_message(document)
    except Rejected as error:
        name, kind, hash_ = _labels(document)
        verdict = Verdict("shape", "failed", error.message, error.rejection)
        return Judgement(name=name, type=kind, hash=hash_, height=height, verdicts=(verdict,))
    verdicts = [_shape(message)]
    spec: Spec | None = None
    try:
        spec = format_spec(message.spec, constants)
    except Rejected as error:
        verdicts += [Verdict("format", "failed", error.message, error.rejection), _hash(message)]
    else:
        verdicts += [
            _format(message, spec),
            _hash(message),
            _signature(message, spec, height, previous, constants),
        ]
        verdicts.append(_rules(spec, height, constants))
        if previous is not None and not message.is_registration:
            verdicts.append(_update(spec, previous))
    return Judgement(
        name=message.name,
        type=message.type,
        hash=message.hash,
        height=height,
        verdicts=tuple(verdicts),
        spec=spec,
    )


def _shape(message: AppMessage) -> Verdict:
    if message.type in MESSAGE_TYPES:
        what = "a registration" if message.is_registration else "an update"
        return Verdict("shape", "passed", f"{message.type} version {message.version}, {what}.")
    return Verdict("shape", "unknown", f'the type "{message.type}" is none of the four known ones.')


def _format(message: AppMessage, spec: Spec) -> Verdict:
    told = f"specification version {spec['version']}"
    same = stringify(spec) == message.spec_text
    return Verdict("format", "passed", f"{told}, {'' if same else 'not '}in its canonical form.")


def _hash(message: AppMessage) -> Verdict:
    found = message_hash(message)
    if found == message.hash:
        return Verdict("hash", "passed", f"the content hashes to {found}.")
    if message_hash_ok(message):
        return Verdict("hash", "passed", f"the content hashes to {message.hash} in the old key order.")
    rejection = Rejection(Reason.HASH_MISMATCH, "hash", message.hash, found)
    return Verdict("hash", "failed", rejection.sentence, rejection)


def _signature(
    message: AppMessage, spec: Spec, height: int | None, previous: Spec | None, constants: Constants
) -> Verdict:
    signed = (message.type, message.version, spec, message.timestamp_ms, message.signature)
    if message.is_registration:
        return _tried("signature", lambda: _told(check_registration(*signed)))
    if previous is None:
        return _unknown_predecessor(message, spec)

    def rule() -> str:
        return _told(
            check_update(
                *signed,
                previous_owner=previous["owner"],
                height=_NO_HEIGHT_LIMIT if height is None else height,
                previous_spec=previous,
                constants=constants,
            )
        )

    return _tried("signature", rule)


def _unknown_predecessor(message: AppMessage, spec: Spec) -> Verdict:
    text = signed_text(message.type, message.version, stringify(spec), message.timestamp_ms)
    how = "signed" if verify_signature(text, spec["owner"], message.signature) else "not signed"
    said = f"{how} by the owner it names, {spec['owner']}; what counts is the owner before, not known here."
    return Verdict("signature", "unknown", said)


def _told(signer: Signer) -> str:
    scheme = "Bitcoin" if signer.kind == "bitcoin" else "Ethereum"
    order = " over the old key order" if signer.old_order else ""
    return f"{scheme} signature of the {signer.role} {signer.address}{order}."


def _rules(spec: Spec, height: int | None, constants: Constants) -> Verdict:
    if truthy(spec.get("enterprise")):
        return Verdict(
            "rules", "unknown", "the specification is encrypted; only a secure node can look inside."
        )
    if height is None:
        return Verdict(
            "rules", "unknown", "the rules depend on the height of the payment, which is not given."
        )

    def rule() -> str:
        validate(spec, height, constants)
        return f"the specification keeps all rules of height {height}."

    return _tried("rules", rule)


def _update(spec: Spec, previous: Spec) -> Verdict:
    def rule() -> str:
        check_update_compatible(spec, previous)
        return "the update fits the specification it replaces."

    return _tried("update", rule)


# ---- a whole file ------------------------------------------------------------------------------------


def judge_document(
    document: JsValue, *, height: int | None = None, constants: Constants = MAINNET
) -> list[Judgement]:
    """Judge everything in a file: one message, a list, an answer of the API or a signed envelope.

    Rows are judged by height, and an update against what the file itself knows before it: the row of
    that name with the greatest height below its own, or the one before it where heights are not given.
    """
    rows = sorted(_messages_in(document), key=lambda row: _height_of(row) or 0)
    history: dict[str, list[tuple[int | None, Spec]]] = {}
    judgements = []
    for row in rows:
        name, _, _ = _labels(row)
        at = _height_of(row)
        known = history.setdefault(name, [])
        previous = next(
            (spec for before, spec in reversed(known) if at is None or before is None or before < at), None
        )
        judgement = judge_message(
            row, height=at if at is not None else height, previous=previous, constants=constants
        )
        if judgement.spec is not None and judgement.accepted:
            known.append((at, judgement.spec))
        judgements.append(judgement)
    return judgements


def _messages_in(document: JsValue) -> Iterable[JsValue]:
    if isinstance(document, dict) and not _is_message(document) and "data" in document:
        document = document["data"]
    return document if isinstance(document, list) else [document]


def _is_message(document: Mapping[str, JsValue]) -> bool:
    return SPEC_KEY in document or LEGACY_SPEC_KEY in document


def _height_of(document: JsValue) -> int | None:
    height = document.get("height") if isinstance(document, dict) else None
    return height if isinstance(height, int) and not isinstance(height, bool) else None


def _labels(document: JsValue) -> tuple[str, str, str]:
    """Name, type and hash as far as they can be told from something that may be anything."""
    if not isinstance(document, dict):
        return "", "", ""
    spec = spec_of(document)
    name = spec.get("name") if isinstance(spec, dict) else ""
    name, kind, hash_ = (
        value if isinstance(value, str) else ""
        for value in (name, document.get("type"), document.get("hash"))
    )
    return name, kind, hash_
