"""What a settings section is made of: the base struct, value ranges, and notes for docs/config.md.

A field is written `name: Annotated[type, about("meaning", ge=..., original="its.key")] = default`.
msgspec checks the range whenever a file, an environment variable or a flag is read; the notes feed
`docs/config.md` and the error messages.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all sections."""


def about(
    text: str,
    *,
    original: str = "",
    shared: bool = False,
    **limits: Any,
) -> msgspec.Meta:
    """Describe one setting.

    `original` names the original node's key (docs/spec/config.md), empty when there is none.
    `shared` marks facts that every node of one network must agree on. `limits` are msgspec's
    constraints: ge, gt, le, lt, min_length, max_length, pattern.
    """
    return msgspec.Meta(description=text, extra={"original": original, "shared": shared}, **limits)


Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
"""A TCP port number."""

Blocks = Annotated[int, msgspec.Meta(ge=0)]
"""A chain height or a distance in blocks."""

Seconds = Annotated[float, msgspec.Meta(ge=0)]
"""A duration in seconds."""
