"""Keys of simulated nodes: they sign as any other, and what they signed is known to the judge of the run."""

from __future__ import annotations

import random
from collections.abc import Callable

from trionode.wire.keys import NodeKey


class WatchedKey(NodeKey):
    """A node key whose signed texts are told to `on_sign`."""

    __slots__ = ("on_sign",)

    on_sign: Callable[[str], None] | None

    def __init__(self, secret: bytes, *, compressed: bool, wif: str | None = None) -> None:
        super().__init__(secret, compressed=compressed, wif=wif)
        self.on_sign = None

    @classmethod
    def make(cls, rng: random.Random, *, compressed: bool) -> WatchedKey:
        """A new key from `rng`, the one that `NodeKey.generate` makes of it."""
        made = cls.generate(rng, compressed=compressed)
        assert isinstance(made, WatchedKey)
        return made

    def sign(self, message: str) -> str:
        if self.on_sign is not None:
            self.on_sign(message)
        return super().sign(message)
