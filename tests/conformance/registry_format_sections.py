"""Section runners of registry.json: constants, keys, coercions, JSON text, formatter, hashes, signatures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from runner import Context, Mismatch, Outcome, describe_kind, each, expect, fields, one, register

from trionode.config.economy import EconomySettings, SupportAddress
from trionode.config.withouteffect import ANSWERS
from trionode.registry.coercion import UNDEFINED, container, decimals_within, flag, num, text
from trionode.registry.constants import MAINNET, Constants
from trionode.registry.formats import format_spec
from trionode.registry.known_invalid import KNOWN_INVALID_MESSAGES
from trionode.registry.messages import (
    AppMessage,
    check_hash,
    message_hash_ok,
    signed_text,
    spec_of,
)
from trionode.registry.reasons import Rejected
from trionode.registry.signatures import (
    check_registration,
    check_update,
    ethereum_digest,
    expire_only,
    verify_bitcoin,
    verify_signature,
)
from trionode.wire.ethereum import address_of_key
from trionode.wire.jsjson import parse, stringify, utf8
from trionode.wire.keys import NodeKey, address_of

describe_kind("registry", ("meta",))


def judged(rule: Callable[[], object]) -> dict[str, Any]:
    """`result` as the file writes it."""
    try:
        rule()
    except Rejected as error:
        if not str(error) or "{" in error.message:
            raise Mismatch(f"{error.reason} has no sentence") from None
        return {"ok": False, "code": str(error.reason)}
    return {"ok": True}


# ---- §1 constants and keys ---------------------------------------------------------------------------

_REGISTRY, _ECONOMY, _EXPLORER = MAINNET.registry, MAINNET.economy, MAINNET.explorer
_PON = _EXPLORER.pon_height


def _price(row: Any) -> dict[str, Any]:
    return {
        "height": row.height,
        "cpu": row.cpu,
        "ram": row.ram,
        "hdd": row.hdd,
        "minPrice": row.minimum,
        "port": row.port,
        "scope": row.scope,
        "staticip": row.static_ip,
    }


def _usd_price() -> dict[str, Any]:
    row = _ECONOMY.usd_price
    extra = {
        "fluxmultiplier": row.flux_multiplier,
        "multiplier": row.multiplier,
        "minUSDPrice": row.minimum_usd,
    }
    return _price(row) | extra


def _ports(rows: Any) -> list[Any]:
    return [row if isinstance(row, str) else str(row) for row in rows]


OURS: dict[str, Callable[[], Any]] = {
    "price": lambda: [_price(row) for row in _ECONOMY.prices],
    "usdprice": _usd_price,
    "fluxUSDRate": lambda: _ECONOMY.flux_usd_rate,
    "teamSupportAddress": lambda: [
        {"height": row.height, "address": row.address} for row in _ECONOMY.support_addresses
    ],
    "usersToExtend": lambda: list(MAINNET.extending_users),
    "appSpecsEnforcementHeights": lambda: {str(k): v for k, v in MAINNET.activation.items()},
    "address": lambda: MAINNET.payment_addresses(0)[0],
    "addressMultisig": lambda: MAINNET.multisig_addresses(1_300_000)[0],
    "addressMultisigB": lambda: MAINNET.multisig_addresses(1_670_000)[1],
    "multisigAddressChange": lambda: _ECONOMY.multisig_address_b_height,
    "epochstart": lambda: MAINNET.first_height,
    "portMinLegacy": lambda: MAINNET.host_ports(1_419_999)[0],
    "portMaxLegacy": lambda: MAINNET.host_ports(1_419_999)[1],
    "portBlockheightChange": lambda: _REGISTRY.all_ports_height,
    "portMin": lambda: MAINNET.host_ports(1_420_000)[0],
    "portMax": lambda: MAINNET.host_ports(1_420_000)[1],
    "bannedPorts": lambda: list(_REGISTRY.banned_ports),
    "enterprisePorts": lambda: list(_REGISTRY.enterprise_ports),
    "minimumInstances": lambda: MAINNET.min_instances(7, 2_176_519),
    "minimumInstancesV8": lambda: MAINNET.min_instances(8, 2_176_519),
    "minimumInstancesV8Block": lambda: _REGISTRY.min_instances_v8_height,
    "maximumInstances": lambda: MAINNET.max_instances,
    "blocksLasting": lambda: MAINNET.default_expire(_PON - 1),
    "minBlocksAllowance": lambda: MAINNET.min_expire(0),
    "newMinBlocksAllowance": lambda: MAINNET.min_expire(1_630_040),
    "newMinBlocksAllowanceBlock": lambda: _REGISTRY.new_min_lifetime_height,
    "cancel1BlockMinBlocksAllowance": lambda: MAINNET.min_expire(1_964_447),
    "cancel1BlockMinBlocksAllowanceBlock": lambda: _REGISTRY.cancel_lifetime_height,
    "maxBlocksAllowance": lambda: MAINNET.max_expire(_PON - 1),
    "postPonMaxBlocksAllowance": lambda: MAINNET.max_expire(_PON),
    "daemonPONFork": lambda: _PON,
    "blocksAllowanceInterval": lambda: MAINNET.expire_step(1_624_999),
    "removeBlocksAllowanceIntervalBlock": lambda: _REGISTRY.lifetime_step_until_height,
    "removeFluxAppsPeriod": lambda: _EXPLORER.surplus_period_blocks,
    "reconstructAppMessagesHashPeriod": lambda: _EXPLORER.rebuild_period_blocks,
    "benchUpnpPeriod": lambda: ANSWERS["benchUpnpPeriod"],
    "applyMinimumPriceOn3Instances": lambda: _ECONOMY.minimum_on_3_instances_height,
    "applyMinimumForExtraInstances": lambda: _ECONOMY.minimum_for_extra_instances_height,
}

WITHOUT_MEANING = frozenset({"expireFluxAppsPeriod", "updateFluxAppsPeriod"})
"""Starting values that are never read: §1 gives the periods in force (2, and 4..9 drawn anew)."""


@register("registry", "constants")
def constants(section: Any, context: Context) -> Iterator[Outcome]:
    fields(section, "fluxapps known_invalid_messages")

    def check(pair: Any) -> None:
        name, value = pair
        if name in WITHOUT_MEANING:
            return
        if name not in OURS:
            raise Mismatch(f"unknown constant {name}")
        expect(name, OURS[name](), _ports(value) if name in ("bannedPorts", "enterprisePorts") else value)

    def pairs(rows: Any) -> None:
        theirs = {(row["hash"], row["txid"]) for row in (fields(row, "hash txid") for row in rows)}
        expect("known invalid messages", sorted(KNOWN_INVALID_MESSAGES), sorted(theirs))

    for name, value in section["fluxapps"].items():
        yield one(f"constants {name}", check, (name, value))
    yield one("constants known_invalid_messages", pairs, section["known_invalid_messages"])


@register("registry", "keys")
def keys(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(
            case,
            "label priv wif pub_compressed pub_uncompressed address address_uncompressed eth_address",
        )
        secret = bytes.fromhex(case["priv"])
        short, long = NodeKey(secret, compressed=True), NodeKey(secret, compressed=False)
        expect("WIF", short.wif, case["wif"])
        for made, public, address in (
            (short, case["pub_compressed"], case["address"]),
            (long, case["pub_uncompressed"], case["address_uncompressed"]),
        ):
            expect("public key", made.public_key, public)
            expect("address", address_of(public), address)
            message = f"signed by {address}"
            expect("own signature", verify_signature(message, address, made.sign(message)), True)
        ethereum = address_of_key(bytes.fromhex(case["pub_uncompressed"]))
        expect("Ethereum address", ethereum, case["eth_address"].lower())

    if not isinstance(section, dict) or not section:
        raise Mismatch("keys is not an object of keys")
    for role, case in section.items():
        yield one(f"keys {role}", check, case)


# ---- §4 coercions, JSON text, formatter --------------------------------------------------------------


def _as_written(value: Any) -> Any:
    """Our answer in the words of the file for what JSON has no text for."""
    if value is UNDEFINED:
        return "UNDEFINED"
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return value


def _given(value: Any) -> Any:
    """What such words of the file stand for."""
    words = {"NaN": float("nan"), "Infinity": float("inf"), "UNDEFINED": UNDEFINED}
    return words.get(value, value) if isinstance(value, str) else value


CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "ensureNumber": num,
    "ensureBoolean": lambda value: "UNDEFINED" if flag(value) is None else flag(value),
    "ensureString": text,
    "ensureObject": container,
}


@register("registry", "coercion")
def coercion(section: Any, context: Context) -> Iterator[Outcome]:
    def limited(case: Any) -> None:
        fields(case, "value decimals out", "note id name")
        expect("within the limit", decimals_within(_given(case["value"]), case["decimals"]), case["out"])

    def converted(name: str) -> Callable[[Any], None]:
        def check(case: Any) -> None:
            fields(case, "in out", "note id name")
            expect("result", _as_written(CONVERSIONS[name](_given(case["in"]))), case["out"])

        return check

    for name, cases in section.items():
        if name == "isDecimalLimit":
            yield from each(f"coercion {name}", cases, limited)
        elif name in CONVERSIONS:
            yield from each(f"coercion {name}", cases, converted(name), ("in",))
        else:
            yield Outcome(f"coercion {name}", "failed", "unknown function")


@register("registry", "json_text")
def json_text(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "id js_text sha256_utf8", "input_note note")
        again = stringify(parse(case["js_text"]))
        expect("text", again, case["js_text"])
        expect("SHA-256", hashlib.sha256(utf8(again)).hexdigest(), case["sha256_utf8"])

    return each("json_text", section, check, ("id",))


@register("registry", "spec_format")
def spec_format(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "id input result", "note")
        before = stringify(case["input"]) if isinstance(case["input"], dict | list) else ""
        result = judged(lambda: format_spec(case["input"]))
        if result["ok"]:
            formatted = format_spec(case["input"])
            result["output_json"] = stringify(formatted)
            expect("text formatted again", stringify(format_spec(formatted)), result["output_json"])
        expect("result", result, case["result"])
        if before:
            expect("input afterwards", stringify(case["input"]), before)

    return each("spec_format", section, check, ("id",))


# ---- §5 hashes and signatures ------------------------------------------------------------------------


def _loose_message(document: Any) -> AppMessage:
    """The hash check looks at texts only, so it must also take messages the shape check refuses."""
    spec = spec_of(document)
    return AppMessage(
        type=document["type"],
        version=document["version"],
        spec=spec,
        spec_text=stringify(spec),
        hash=document["hash"],
        timestamp_ms=document["timestamp"],
        signature=document["signature"],
    )


@register("registry", "message_hash")
def message_hashes(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "id message_json verifyAppHash", "preimage_as_sent note")
        message = _loose_message(parse(case["message_json"]))
        text = signed_text(message.type, message.version, message.spec_text, message.timestamp_ms)
        if "preimage_as_sent" in case:
            expect("text hashed first", text + message.signature, case["preimage_as_sent"])
        result = judged(lambda: check_hash(message))
        expect("verdict", result, case["verifyAppHash"])
        expect("short verdict", message_hash_ok(message), result["ok"])

    return each("message_hash", section, check, ("id",))


@register("registry", "verify_signature")
def verify_signatures(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "id message address signature verifySignature verifyMessage_btc_only", "note eth_hash")
        triple = (case["message"], case["address"], case["signature"])
        expect("either kind", verify_signature(*triple), case["verifySignature"])
        expect("Bitcoin only", verify_bitcoin(*triple), case["verifyMessage_btc_only"])
        if "eth_hash" in case:
            expect("Ethereum digest", "0x" + ethereum_digest(case["message"]).hex(), case["eth_hash"])

    return each("verify_signature", section, check, ("id",))


@register("registry", "register_signature")
def register_signatures(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "id type version spec_json timestamp signature result", "note")
        kind, version, timestamp = case["type"], case["version"], case["timestamp"]
        spec = parse(case["spec_json"])
        result = judged(lambda: check_registration(kind, version, spec, timestamp, case["signature"]))
        expect("result", result, case["result"])

    return each("register_signature", section, check, ("id",))


@register("registry", "update_signature")
def update_signatures(section: Any, context: Context) -> Iterator[Outcome]:
    roles = {"owner": "owner", "team": "team support", "extender": "extending user"}

    def check(case: Any) -> None:
        fields(
            case,
            "id type version spec_json timestamp signature previous_owner height result",
            "signer previous_spec system_secure team_address users_to_extend note",
        )
        economy = EconomySettings(
            support_addresses=tuple(
                SupportAddress(row.height, case.get("team_address", row.address))
                for row in MAINNET.economy.support_addresses
            ),
            extending_users=tuple(case.get("users_to_extend", MAINNET.extending_users)),
        )
        kind, version, timestamp = case["type"], case["version"], case["timestamp"]
        seen: list[str] = []

        def rule() -> None:
            signer = check_update(
                kind,
                version,
                parse(case["spec_json"]),
                timestamp,
                case["signature"],
                previous_owner=case["previous_owner"],
                height=case["height"],
                previous_spec=case.get("previous_spec"),
                constants=Constants(economy=economy),
                system_secure=case.get("system_secure", False),
            )
            seen.append(signer.role)

        result = judged(rule)
        expect("result", result, case["result"])
        if result["ok"] and case.get("signer") in ("team", "extender"):
            expect("role of the signer", seen, [roles[case["signer"]]])

    return each("update_signature", section, check, ("id",))


@register("registry", "expire_only")
def expire_only_changes(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "new existing out", "id name note")
        expect("expire only", expire_only(case["new"], case["existing"]), case["out"])

    return each("expire_only", section, check, ("id", "name"))
