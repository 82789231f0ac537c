"""Whom the observer asks: seeds first, then nodes of the list, a few at a time (docs/observer.md).

Pure book-keeping; seconds and randomness come in. Nodes from a list are taken from different providers
(/16), so that whoever runs many nodes in one place has one voice. Who fails again and again, or is outvoted
in many rows, gives its place to another and rests.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence

from trionode.config.observer import ObserverSettings
from trionode.errors import ConfigError, WireError
from trionode.observer.answers import ChainHeight
from trionode.observer.votes import Dissent
from trionode.wire.address import peer_key, provider, split_address
from trionode.wire.nodelist import NodeEntry

MAX_RESTING = 1024
MAX_DRAWS = 200


class Source:
    """One node that is asked, and what came of it."""

    def __init__(self, ip: str, port: int, *, is_seed: bool) -> None:
        self.ip = ip
        self.port = port
        self.key = peer_key(ip, port)
        self.is_seed = is_seed
        self.etag = ""
        self.entries: tuple[NodeEntry, ...] = ()
        """Its node list as told last; kept because an unchanged one is not sent again."""
        self.told_in_round = -1
        """The round in which it told its node list last."""
        self.height: ChainHeight | None = None
        self.dissent: Dissent | None = None
        self.is_far = False
        """Its height is further from the agreed one than blocks travel."""
        self.failures = 0
        self.last_error = ""
        self.last_answer_s: float | None = None

    def answered(self, now_s: float) -> None:
        self.failures = 0
        self.last_error = ""
        self.last_answer_s = now_s

    def failed(self, reason: str) -> None:
        self.failures += 1
        self.last_error = reason


class SourceBook:
    """The sources in use. `allowed(ip, port)` tells which nodes of a list may be asked at all."""

    def __init__(
        self,
        settings: ObserverSettings,
        seeds: Iterable[str],
        rng: random.Random,
        *,
        allowed: Callable[[str, int], bool],
    ) -> None:
        self._settings = settings
        self._rng = rng
        self._allowed = allowed
        self._seeds = [seed_target(seed) for seed in dict.fromkeys(seeds)]
        self._resting: dict[str, float] = {}
        self._in_use: dict[str, Source] = {}

    def __iter__(self) -> Iterator[Source]:
        return iter(list(self._in_use.values()))

    def __len__(self) -> int:
        return len(self._in_use)

    @property
    def has_room(self) -> bool:
        return len(self._in_use) < self._settings.sources

    def fill(self, addresses: Sequence[str], now_s: float, *, least: int = 0) -> list[Source]:
        """Take sources until there are enough: seeds, then nodes of the list at random. The new ones.

        While there would be fewer than `least`, those that rest are taken too: when everybody failed it was
        our own connection.
        """
        taken = self._take_seeds(now_s) + self._take_listed(addresses, now_s)
        if len(self._in_use) < least:
            rested_s = float("inf")
            taken += self._take_seeds(rested_s) + self._take_listed(addresses, rested_s)
        return taken

    def drop(self, source: Source, now_s: float) -> None:
        """Ask somebody else in its place for a while."""
        self._in_use.pop(source.key, None)
        self._resting[source.key] = now_s + self._settings.rest_s
        while len(self._resting) > MAX_RESTING:
            del self._resting[next(iter(self._resting))]

    def weed(self, agreed_rows: int, now_s: float) -> list[Source]:
        """Drop who failed too often, and nodes that were outvoted in too many rows; seeds are kept then."""
        limit_rows = max(3, self._settings.dissent_max * agreed_rows)
        dropped = []
        for source in self:
            outvoted = source.dissent is not None and source.dissent.rows > limit_rows
            if source.failures >= self._settings.failures_max or (outvoted and not source.is_seed):
                self.drop(source, now_s)
                dropped.append(source)
        return dropped

    def _take_seeds(self, now_s: float) -> list[Source]:
        free = [
            (ip, port)
            for ip, port in self._seeds
            if peer_key(ip, port) not in self._in_use and not self._rests(peer_key(ip, port), now_s)
        ]
        self._rng.shuffle(free)
        return [self._use(Source(ip, port, is_seed=True)) for ip, port in free[: self._room()]]

    def _take_listed(self, addresses: Sequence[str], now_s: float) -> list[Source]:
        taken: list[Source] = []
        providers = {provider(source.ip) for source in self}
        for _ in range(MAX_DRAWS if addresses else 0):
            if not self._room():
                break
            try:
                ip, port = split_address(self._rng.choice(addresses))
            except WireError:
                continue
            key = peer_key(ip, port)
            if key in self._in_use or provider(ip) in providers or self._rests(key, now_s):
                continue
            if self._allowed(ip, port):
                providers.add(provider(ip))
                taken.append(self._use(Source(ip, port, is_seed=False)))
        return taken

    def _use(self, source: Source) -> Source:
        self._in_use[source.key] = source
        return source

    def _room(self) -> int:
        return max(0, self._settings.sources - len(self._in_use))

    def _rests(self, key: str, now_s: float) -> bool:
        return self._resting.get(key, float("-inf")) > now_s


def seed_target(text: str) -> tuple[str, int]:
    """(host, port) of a seed. Raises ConfigError."""
    try:
        host, port = split_address(text.strip().removeprefix("http://").rstrip("/"))
    except WireError as error:
        raise ConfigError(
            f"{text!r} is no node: {error.message}", remedy="write HOST or HOST:PORT"
        ) from error
    if not host or not all(letter.isalnum() or letter in ".-" for letter in host) or not host.isascii():
        raise ConfigError(f"{text!r} is no node", remedy="write HOST or HOST:PORT, without https://")
    return host, port
