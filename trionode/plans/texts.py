"""Texts that no machine can take: JSON carries NUL and halves of characters, kernels and engines do not.

The network accepts specifications with such texts (docs/spec/registry.md §4); no container can be made of
them (docs/spec/lifecycle.md §13).
"""

from __future__ import annotations

from collections.abc import Iterable


def odd_in(text: str) -> str:
    """What a text has that no machine takes, "" when it has nothing of the kind."""
    if "\0" in text:
        return "a NUL character"
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return "half a character (an unpaired surrogate)"
    return ""


def odd_among(texts: Iterable[str]) -> str:
    """The same of several."""
    return next((odd for text in texts if (odd := odd_in(text))), "")
