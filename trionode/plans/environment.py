"""Environment and command of a container (docs/spec/lifecycle.md §13).

What has to be fetched or decrypted is handed in as values; here is only what comes of them. The texts may
hold secrets: no error names their content.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from trionode.errors import WireError
from trionode.plans.problem import WrongAnswer, refuse
from trionode.plans.texts import odd_among
from trionode.wire.jsjson import parse, utf16_length

ENVIRONMENT_MARK = "F_S_ENV="
COMMAND_MARK = "F_S_CMD="
LONGEST_TEXT = 5_000_000
"""UTF-16 units of one entry."""
MOST_FETCHED = 199
PRIVILEGED = "--privileged"
DROPPED_SECRET = "privileged"


class Fetched(msgspec.Struct, frozen=True):
    """What the storage of the owner answered; `value` is the JSON document as read."""

    value: Any


def storage_url(entries: Sequence[str], mark: str) -> str | None:
    """Where further entries are to be fetched from: the first entry with that mark."""
    return next((entry.removeprefix(mark) for entry in entries if entry.startswith(mark)), None)


def open_secrets(clear: str) -> tuple[str, ...]:
    """The entries of decrypted secrets: a JSON list of texts."""
    try:
        value = parse(clear)
    except WireError:
        value = None
    texts = _texts(value)
    if texts is None or odd_among(texts):
        refuse("The secrets of the app are not a JSON list of usable texts.")
    return tuple(text for text in texts if text != DROPPED_SECRET)


def environment(
    own: Sequence[str],
    *,
    app: str,
    own_ip: str | None,
    secrets: Sequence[str] = (),
    fetched: Fetched | None = None,
) -> tuple[str, ...]:
    """All variables in their order: own, secret, fetched, and the two every app gets."""
    entries = _completed((*own, *secrets), ENVIRONMENT_MARK, fetched)
    if own_ip:
        entries.append(f"FLUX_NODE_HOST_IP={own_ip}")
    return (*entries, f"FLUX_APP_NAME={app}")


def command(own: Sequence[str], fetched: Fetched | None = None) -> tuple[str, ...]:
    """The words of the command; none of them may ask for privileges."""
    return tuple(word for word in _completed(own, COMMAND_MARK, fetched) if word != PRIVILEGED)


def _completed(entries: Sequence[str], mark: str, fetched: Fetched | None) -> list[str]:
    kept, url = list(entries), storage_url(entries, mark)
    if url is None:
        return kept
    kept.remove(f"{mark}{url}")
    texts = None if fetched is None else _texts(fetched.value)
    if texts is None or len(texts) > MOST_FETCHED or odd_among(texts):
        raise WrongAnswer(
            f"The storage named by {mark[:-1]} did not answer with a list of fewer than 200 usable texts.",
            remedy="see what the address in the specification answers",
        )
    return kept + [text for text in texts if text != PRIVILEGED]


def _texts(value: Any) -> list[str] | None:
    """The value if it is a list of texts of bearable length."""
    if not isinstance(value, list):
        return None
    fits = all(isinstance(text, str) and utf16_length(text) <= LONGEST_TEXT for text in value)
    return value if fits else None
