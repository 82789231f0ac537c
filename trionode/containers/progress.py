"""What an operation tells while it runs, in the words the network knows (docs/spec/lifecycle.md §12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trionode.containers.engine import PullProgress

Message = Mapping[str, Any]


def of_pull(step: PullProgress) -> Message:
    """A message of the engine's pull in the form the network knows."""
    message: dict[str, Any] = {"status": step.status}
    if step.layer:
        message["id"] = step.layer
    if step.total_bytes is not None or step.done_bytes is not None:
        sizes = {"current": step.done_bytes, "total": step.total_bytes}
        message["progressDetail"] = {name: size for name, size in sizes.items() if size is not None}
    return message
