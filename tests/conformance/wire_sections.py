"""Section runners of wire.json for what is pure in trionode.wire: keys to envelopes, texts, frames."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from runner import Context, Mismatch, Outcome, describe_kind, each, expect, fields, one, register

from trionode.errors import WireError
from trionode.wire import frames, signing
from trionode.wire.appmessage import app_message_hash, app_signed_text
from trionode.wire.envelope import decode_envelope, seal
from trionode.wire.frames import Nak, PeerExchange, PeerUpdate, SyncRequest, decode_frame, encode_frame
from trionode.wire.jsjson import parse, stringify, utf8
from trionode.wire.keys import NodeKey, address_of
from trionode.wire.objecthash import object_hash, serialise
from trionode.wire.origin import is_signed
from trionode.wire.textframe import classify, frame_text, parse_value, split_timestamp, with_timestamp

describe_kind("wire", ("meta",))


def text_of(value: Any) -> Any:
    """Long texts are written as {repeat, count}."""
    if isinstance(value, dict):
        fields(value, "repeat count")
        return value["repeat"] * value["count"]
    return value


def key_named(context: Context, letter: str) -> NodeKey:
    try:
        return NodeKey.from_wif(context.document["keys"][letter]["wif"])
    except KeyError:
        raise Mismatch(f"key {letter!r} is not in the file's keys") from None


# ---- §7 keys and signatures --------------------------------------------------------------------------


@register("wire", "keys")
def keys(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(
            case,
            "wif pubkey",
            "label priv compressed wif_decodes_to pubkey_other_form p2pkh_address flux_address_2089",
        )
        key = NodeKey.from_wif(case["wif"])
        expect("public key", key.public_key, case["pubkey"])
        secret = signing_secret(case["wif"])
        for field in ("priv", "wif_decodes_to"):
            if field in case:
                expect(field, secret.hex(), case[field])
        if "compressed" in case:
            expect("form", key.compressed, case["compressed"])
            expect("WIF made from the secret", NodeKey(secret, compressed=key.compressed).wif, case["wif"])
        if "pubkey_other_form" in case:
            # the prefix byte of this field is as the original printed it: compare the points
            other = NodeKey(secret, compressed=not key.compressed).public_key
            expect("other form", other[2:66], case["pubkey_other_form"][2:66])
            expect("other form's length", len(other), len(case["pubkey_other_form"]))
        if "p2pkh_address" in case:
            expect("address", key.address, case["p2pkh_address"])
            expect("address_of", address_of(case["pubkey"]), case["p2pkh_address"])
        if "flux_address_2089" in case:
            # a two-byte version: what counts in an address is its last 20 bytes
            hashed = signing.address_payload(case["flux_address_2089"])[-20:]
            expect("flux address", hashed, signing.hash160(bytes.fromhex(key.public_key)))

    if not isinstance(section, dict):
        raise Mismatch("keys is not an object")
    for letter, case in section.items():
        yield one(f"keys {letter}", check, case)


def signing_secret(wif: str) -> bytes:
    return signing.address_payload(wif)[1:33]


@register("wire", "magic_hash")
def magic_hash(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "message hash", "name utf8_len note")
        message = text_of(case["message"])
        if "utf8_len" in case:
            expect("UTF-8 length", len(utf8(message)), case["utf8_len"])
        expect("digest", signing.message_digest(message).hex(), case["hash"])

    return each("magic_hash", section, check)


@register("wire", "sign_rfc6979_no_extra_entropy")
def sign(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "key message signature", "name note")
        key, message = key_named(context, case["key"]), text_of(case["message"])
        expect("signature", key.sign(message), case["signature"])
        expect("verdict", signing.verify_message(message, key.public_key, case["signature"]), True)

    return each("sign_rfc6979_no_extra_entropy", section, check, ("name", "key"))


def _triple(case: Any) -> tuple[str, str, str]:
    fields(case, "message pubkey_or_address signature js_valid", "name note")
    return text_of(case["message"]), case["pubkey_or_address"], case["signature"]


@register("wire", "verify_message")
def verify_message(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        expect("verdict", signing.verify_message(*_triple(case)), case["js_valid"])

    return each("verify_message", section, check)


@register("wire", "verify_pool_same_items")
def verify_pool(section: Any, context: Context) -> Iterator[Outcome]:
    cases = context.document.get("verify_message")
    if not isinstance(cases, list) or not isinstance(section, list) or len(cases) != len(section):
        raise Mismatch("verify_pool_same_items does not go with verify_message")
    ours = signing.verify_batch([_triple(case) for case in cases])
    for number, (case, verdict, expected) in enumerate(zip(cases, ours, section, strict=True)):
        name = f"verify_pool_same_items[{number}] {case.get('name', '')}"
        yield one(name, lambda pair: expect("pool verdict", *pair), (verdict, expected))


@register("wire", "verify_pool_differences_from_verify_message")
def verify_pool_differences(section: Any, context: Context) -> Iterator[Outcome]:
    def check(expected: Any) -> None:
        cases = context.document.get("verify_message", [])
        triples = [_triple(case) for case in cases]
        pool = signing.verify_batch(triples)
        differing = [
            case["name"]
            for case, triple, verdict in zip(cases, triples, pool, strict=True)
            if signing.verify_message(*triple) != verdict
        ]
        expect("cases where pool and single differ", sorted(differing), sorted(expected))

    yield one("verify_pool_differences_from_verify_message", check, section)


# ---- §8 canonical text and envelopes -----------------------------------------------------------------


@register("wire", "object_hash")
def object_hashes(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "json sha1", "preimage_utf8 name note")
        value = parse(case["json"])
        if "preimage_utf8" in case:
            expect("preimage", utf8(serialise(value)), utf8(case["preimage_utf8"]))
        expect("hash", object_hash(value), case["sha1"])

    return each("object_hash", section, check, ("name", "json"))


@register("wire", "json_reserialise")
def json_reserialise(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "input js", "name note")
        if case["js"] is None:
            try:
                value = parse(case["input"])
            except WireError:
                return
            raise Mismatch(f"parsed as {value!r}, the file says it is no JSON")
        expect("text", stringify(parse(case["input"])), case["js"])

    return each("json_reserialise", section, check, ("name", "input"))


@register("wire", "app_message")
def app_message(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(
            case,
            "type version timestamp appSpecifications signed_string signature hash",
            "owner_key hash_preimage name note",
        )
        signed = app_signed_text(case["type"], case["version"], case["appSpecifications"], case["timestamp"])
        expect("signed string", signed, case["signed_string"])
        if "hash_preimage" in case:
            expect("hash preimage", signed + case["signature"], case["hash_preimage"])
        expect("hash", app_message_hash(signed, case["signature"]), case["hash"])
        if "owner_key" in case:
            key = key_named(context, case["owner_key"])
            for signer in (key.address, key.public_key):
                expect("owner signature", signing.verify_message(signed, signer, case["signature"]), True)

    if isinstance(section, list):
        yield from each("app_message", section, check)
    else:
        yield one("app_message", check, section)


@register("wire", "envelopes")
def envelopes(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "text_frame signed_string data_object_hash", "key name note type")
        envelope = decode_envelope(parse_value(case["text_frame"]))
        expect("signed string", envelope.signed_text, case["signed_string"])
        expect("data hash", envelope.data_hash, case["data_object_hash"])
        expect("text sent on", envelope.text, case["text_frame"])
        expect("signature", is_signed(envelope), True)
        if "type" in case:
            expect("type", envelope.type, case["type"])
        if "key" in case:
            key = key_named(context, case["key"])
            expect("signer", envelope.pub_key, key.public_key)
            again = seal(envelope.data, key, envelope.timestamp_ms)
            expect("signed string when sealed by us", again.signed_text, case["signed_string"])
            expect("own signature", is_signed(again), True)

    def name_of(case: Any) -> str:
        found = re.search(r'"data":\{"type":"(\w+)"', str(case.get("text_frame")))
        return found[1] if found else ""

    named = section
    if isinstance(section, list):
        named = [{"name": name_of(case), **case} if isinstance(case, dict) else case for case in section]
    return each("envelopes", named, check)


# ---- §6 frames ---------------------------------------------------------------------------------------


def frame_as_js(frame: frames.Frame | None) -> Any:
    """A decoded frame in the shape the file gives."""
    if frame is None:
        return None
    if isinstance(frame, Nak):
        return {"hash": frame.hash, "reason": frame.reason}
    if isinstance(frame, PeerExchange):
        return {"outbound": list(frame.outbound), "inbound": list(frame.inbound)}
    if isinstance(frame, PeerUpdate):
        return {
            "addOutbound": list(frame.add_outbound),
            "addInbound": list(frame.add_inbound),
            "rm": list(frame.removed),
        }
    if isinstance(frame, SyncRequest):
        return {
            "type": frame.kind,
            "sinceTimestamp": frame.since_ms,
            "requestTimestamp": frame.request_ms,
            "pubkey": frame.public_key,
            "signature": frame.signature,
        }
    return {"hash": frame.hash}


def frame_from_arguments(op: int, arguments: list[Any]) -> frames.Frame:
    """The frame an encoder of the original was called with."""
    if op == frames.HASH_PRESENT:
        return frames.HashPresent(*arguments)
    if op == frames.HASH_REQUEST:
        return frames.HashRequest(*arguments)
    if op == frames.NAK:
        return Nak(*arguments)
    lists = [tuple(peers) for peers in arguments]
    if op == frames.PEER_EXCHANGE:
        return PeerExchange(*lists)
    if op == frames.PEER_UPDATE:
        return PeerUpdate(*lists)
    raise Mismatch(f"no encoder takes plain arguments for opcode 0x{op:02x}")


@register("wire", "frames_basic")
def frames_basic(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "hex", "name encoder_args len js_decoded note")
        raw = bytes.fromhex(case["hex"])
        if not case.keys() & {"encoder_args", "js_decoded"}:
            raise Mismatch("unknown case shape: neither encoder_args nor js_decoded")
        if "len" in case:
            expect("length", len(raw), case["len"])
        if "encoder_args" in case:
            written = encode_frame(frame_from_arguments(raw[0], case["encoder_args"]))
            expect("encoded", written.hex(), case["hex"])
        if "js_decoded" in case:
            expect("decoded", frame_as_js(decode_frame(raw)), case["js_decoded"])

    return each("frames_basic", section, check)


@register("wire", "sync_requests")
def sync_requests(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "key type since request_ts signed_string signature_b64 hex", "len js_decoded name note")
        key = key_named(context, case["key"])
        made = frames.sync_request(case["type"], case["since"], case["request_ts"], key)
        expect("preimage", made.preimage, case["signed_string"])
        expect("own signature", made.is_signed(), True)
        theirs = SyncRequest(
            case["type"], case["since"], case["request_ts"], key.public_key, case["signature_b64"]
        )
        expect("their signature", theirs.is_signed(), True)
        expect("encoded", encode_frame(theirs).hex(), case["hex"])
        expect("decoded", decode_frame(bytes.fromhex(case["hex"])), theirs)
        if "len" in case:
            expect("length", len(bytes.fromhex(case["hex"])), case["len"])
        if "js_decoded" in case:
            expect("decoded", frame_as_js(theirs), case["js_decoded"])

    return each("sync_requests", section, check, ("name", "signed_string"))


_SINCE = re.compile(r"since = (\d+)(?:\^(\d+))?\s*([+-]\s*\d+)?")


@register("wire", "sync_request_decode_edge")
def sync_request_decode_edge(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "name", "hex js_decoded js_signed_string note")
        if "hex" in case:
            if "js_decoded" not in case and "js_signed_string" not in case:
                raise Mismatch("unknown case shape: hex without an expectation")
            frame = decode_frame(bytes.fromhex(case["hex"]))
            if "js_decoded" in case:
                expect("decoded", frame_as_js(frame), case["js_decoded"])
            if "js_signed_string" in case:
                expect("preimage", getattr(frame, "preimage", None), case["js_signed_string"])
            return
        # a preimage alone: its `since` is told in the name, kind and request time only in the text
        told = _SINCE.search(case["name"])
        if told is None or "js_signed_string" not in case:
            raise Mismatch("unknown case shape: no hex, and no `since = ...` in the name")
        since = int(told[1]) ** int(told[2] or 1) + int((told[3] or "0").replace(" ", ""))
        kind, requested = int(case["js_signed_string"][:2]), int(case["js_signed_string"][-13:])
        expect("preimage", frames.sync_preimage(kind, since, requested), case["js_signed_string"])
        if since < 2**64:
            raw = bytes((kind,)) + since.to_bytes(8, "big") + requested.to_bytes(8, "big")
            frame = decode_frame(raw + bytes((33,)) + bytes(33) + bytes((65,)) + bytes(65))
            expect("preimage of the frame", getattr(frame, "preimage", None), case["js_signed_string"])

    return each("sync_request_decode_edge", section, check)


# ---- §5 texts ----------------------------------------------------------------------------------------


@register("wire", "text_frames")
def text_frames(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "raw js_dispatched", "js_nak_count js_prefix_stripped name note")
        _, body = split_timestamp(case["raw"])
        if "js_prefix_stripped" in case:
            expect("prefix stripped", body != case["raw"], case["js_prefix_stripped"])
        value = parse_value(body)
        try:
            classified = classify(value) if isinstance(value, dict) else value
        except WireError:
            classified = value  # goes on to be closed for its hash
        naks = int(isinstance(classified, Nak))
        consumed = isinstance(classified, Nak | PeerExchange | PeerUpdate)
        if "js_nak_count" in case:
            expect("NAKs counted", naks, case["js_nak_count"])
        # `null` stopped the original, so whatever the file saw there: §5 wants {}
        theirs = {} if body.strip(" \t\r\n") == "null" else case["js_dispatched"]
        expect("dispatched", None if consumed else value, theirs)
        if isinstance(value, dict | list) and not consumed:
            expect("dispatched text", stringify(value), stringify(theirs))

    return each("text_frames", section, check, ("name", "raw"))


@register("wire", "text_send")
def text_send(section: Any, context: Context) -> Iterator[Outcome]:
    fields(section, "capability_absent capability_present nak_json_with_prefix nak_binary_hex")
    nak = decode_frame(bytes.fromhex(section["nak_binary_hex"]))

    def prefixed(pair: Any) -> None:
        sent, plain = pair
        time_ms, body = split_timestamp(sent)
        expect("body", body, plain)
        expect("text with prefix", with_timestamp(plain, time_ms or 0), sent)

    def absent(text: Any) -> None:
        expect("text without prefix", stringify(parse(text)), text)

    def binary(text: Any) -> None:
        if nak is None:
            raise Mismatch("the NAK frame cannot be read")
        expect("NAK frame", encode_frame(nak).hex(), text)

    def json_form(text: Any) -> None:
        if not isinstance(nak, Nak):
            raise Mismatch("the NAK frame cannot be read")
        prefixed((text, frame_text(nak)))
        expect("NAK read back", classify(parse(split_timestamp(text)[1])), nak)

    yield one("text_send capability_absent", absent, section["capability_absent"])
    pair = (section["capability_present"], section["capability_absent"])
    yield one("text_send capability_present", prefixed, pair)
    yield one("text_send nak_binary_hex", binary, section["nak_binary_hex"])
    yield one("text_send nak_json_with_prefix", json_form, section["nak_json_with_prefix"])
