"""Speed of the wire room: frames, JSON, content hash, signatures, and the receive path without store.

Goal: receive path (text -> parse -> content hash -> verified envelope) >= 8,000/s on one core for a
fluxapprunning v2 message of about 750 bytes. Run: python scripts/bench/bench_wire.py [--json FILE]
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Sequence
from itertools import cycle

import trio
from _harness import Bench
from coincurve import PrivateKey, PublicKey

from trionode.wire.envelope import Envelope, decode_envelope, seal
from trionode.wire.frames import (
    Frame,
    HashPresent,
    PeerExchange,
    SyncRequest,
    decode_frame,
    encode_frame,
    sync_request,
)
from trionode.wire.jsjson import parse, stringify
from trionode.wire.keys import NodeKey
from trionode.wire.nodelist import NodeEntry, NodeList
from trionode.wire.objecthash import object_hash, serialise
from trionode.wire.origin import OriginVerdict, verify_envelope
from trionode.wire.signing import message_digest, recover, verify_batch, verify_message
from trionode.wire.textframe import classify, frame_text, parse_body, split_timestamp, with_timestamp

NOW_MS = 1_760_000_000_000
MESSAGES = 256
SLICE = 50


def messages(rng: random.Random) -> tuple[list[str], NodeList]:
    """Texts of distinct nodes, as they arrive: with prefix, four apps, about 750 bytes."""
    texts, entries = [], []
    for number in range(MESSAGES):
        key = NodeKey.generate(rng)
        ip = f"203.{number % 200}.113.{number % 250}:16137"
        apps = [
            {"name": f"FoldingApp{number}{letter}", "hash": rng.randbytes(8).hex(), "runningSince": since}
            for letter, since in zip("abcd", ["2025-10-09T08:53:20.000Z"] * 4, strict=True)
        ]
        data = {
            "type": "fluxapprunning",
            "version": 2,
            "apps": apps,
            "ip": ip,
            "broadcastedAt": NOW_MS,
            "osUptime": 123456.78,
            "staticIp": True,
        }
        texts.append(with_timestamp(seal(data, key, NOW_MS + 5).text, NOW_MS + 9))
        entries.append(NodeEntry(ip=ip, pubkey=key.public_key))
    return texts, NodeList(entries)


def receive(raw: str, nodes: NodeList) -> Envelope:
    """The receive path as the gossip room walks it, without cache and store."""
    _, text = split_timestamp(raw)
    envelope = decode_envelope(classify(parse_body(text)))
    if not envelope.data_hash or verify_envelope(envelope, nodes, NOW_MS) is not OriginVerdict.OK:
        raise AssertionError("a message of the bench does not verify")
    return envelope


def frames(bench: Bench) -> None:
    names = tuple(f"203.0.{n}.7:16127" for n in range(30))
    key = NodeKey.generate(random.Random(2))
    exchange = PeerExchange(names, names[:10])
    cases: dict[str, Frame] = {
        "hash present": HashPresent("0e511e2106851b6a8239a00234cc742d32ce8f02"),
        "peer exchange of 40": exchange,
        "sync request": sync_request(0x21, 0, NOW_MS, key),
    }
    for name, frame in cases.items():
        raw = encode_frame(frame)
        rival = raw.hex() if isinstance(frame, SyncRequest) else frame_text(frame)
        as_json = json.dumps(rival) if isinstance(frame, SyncRequest) else rival
        yardstick = f"json.loads of {name}"
        bench.rate(yardstick, lambda text=as_json: json.loads(text))  # type: ignore[misc]
        bench.rate(f"encode {name}", lambda frame=frame: encode_frame(frame))  # type: ignore[misc]
        bench.rate(
            f"decode {name}",
            lambda raw=raw: decode_frame(raw),  # type: ignore[misc]
            baseline=yardstick,
        )


def json_and_hash(bench: Bench, text: str) -> None:
    value = parse(text)
    data = value["data"]
    preimage = serialise(data).encode()
    dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    bench.rate("stdlib json.loads", lambda: json.loads(text), note=f"message of {len(text)} characters")
    bench.rate("parse", lambda: parse(text), baseline="stdlib json.loads")
    bench.rate("stdlib json loads + dumps", lambda: dumps(json.loads(text)))
    bench.rate("parse + stringify", lambda: stringify(parse(text)), baseline="stdlib json loads + dumps")
    odd = text.replace('"name"', '"\\u006eame"')
    bench.rate(
        "parse + stringify, exact path", lambda: stringify(parse(odd)), baseline="stdlib json loads + dumps"
    )
    bench.rate("hashlib SHA-1 of the preimage alone", lambda: hashlib.sha1(preimage).hexdigest())
    bench.rate("content hash", lambda: object_hash(data), baseline="hashlib SHA-1 of the preimage alone")


def signatures(bench: Bench, text: str) -> None:
    envelope = decode_envelope(parse(text))
    digest = message_digest(envelope.signed_text)
    secret = PrivateKey(b"\x01" * 32)
    raw = secret.sign_recoverable(digest, hasher=None)
    der = secret.sign(digest, hasher=None)
    public = secret.public_key
    key = NodeKey.generate(random.Random(3))
    bench.rate(
        "coincurve recover alone", lambda: PublicKey.from_signature_and_message(raw, digest, hasher=None)
    )
    bench.rate("coincurve verify alone", lambda: public.verify(der, digest, hasher=None))
    bench.rate(
        "recover (Base64, digest, key)",
        lambda: recover(envelope.signed_text, envelope.signature),
        baseline="coincurve recover alone",
    )
    bench.rate(
        "verify_message",
        lambda: verify_message(envelope.signed_text, envelope.pub_key, envelope.signature),
        baseline="coincurve recover alone",
    )
    bench.rate("coincurve sign alone", lambda: secret.sign_recoverable(digest, hasher=None))
    bench.rate(
        "seal (stringify, sign)", lambda: seal(envelope.data, key, NOW_MS), baseline="coincurve sign alone"
    )


async def pooled(items: Sequence[tuple[str, str, str]], threads: int) -> float:
    """Verdicts per wall second when batches go to worker threads."""
    limiter = trio.CapacityLimiter(threads)
    slices = [items[start : start + SLICE] for start in range(0, len(items), SLICE)]

    async def work(part: Sequence[tuple[str, str, str]]) -> None:
        verdicts = await trio.to_thread.run_sync(verify_batch, part, limiter=limiter)
        if not all(verdicts):
            raise AssertionError("a message of the bench does not verify")

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for part in slices:
            nursery.start_soon(work, part)
    return len(items) / (time.perf_counter() - began)


def pools(bench: Bench, texts: Sequence[str]) -> None:
    envelopes = [decode_envelope(parse_body(split_timestamp(text)[1])) for text in texts]
    items = [(e.signed_text, e.pub_key, e.signature) for e in envelopes] * 8
    began = time.perf_counter()
    verify_batch(items)
    bench.add("verify_batch, wall, inline", len(items) / (time.perf_counter() - began), "1/s")
    for threads in (1, 2):
        rate = max(trio.run(pooled, items, threads) for _ in range(3))
        bench.add(
            f"verify_batch, wall, {threads} thread(s), slices of {SLICE}",
            rate,
            "1/s",
            baseline="verify_batch, wall, inline",
        )


def main() -> int:
    bench = Bench("wire: operations per second of one core")
    texts, nodes = messages(random.Random(1))
    plain = split_timestamp(texts[0])[1]
    frames(bench)
    json_and_hash(bench, plain)
    signatures(bench, plain)
    pools(bench, texts)
    supply = cycle(texts)
    size = sum(map(len, texts)) // len(texts)
    bench.rate(
        "receive path: parse + hash + verify",
        lambda: receive(next(supply), nodes),
        baseline="coincurve recover alone",
        goal=8000,
        seconds=2,
        note=f"distinct messages of {size} bytes",
    )
    return bench.finish()


if __name__ == "__main__":
    raise SystemExit(main())
