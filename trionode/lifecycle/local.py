"""What is installed on this node, as values: apps, their components, containers.

Facts: docs/spec/lifecycle.md §4, §13.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from trionode.lifecycle.names import true_flags

RUNNING = "running"
EXITED = "exited"
LAST_SINGLE_VERSION = 3
"""Specifications up to this version describe one container."""


class Component(msgspec.Struct, frozen=True):
    """One container of an app. `identifier`: `component_app`, or the app name for specs up to v3."""

    identifier: str
    container_data: str = ""

    @property
    def flags(self) -> frozenset[str]:
        """The true file sync flags, any of g, r, s."""
        return true_flags(self.container_data)


class InstalledApp(msgspec.Struct, frozen=True):
    """A local row: an app installed here, its components in the order of its specification."""

    name: str
    hash: str
    components: tuple[Component, ...] = ()


class Container(msgspec.Struct, frozen=True):
    """One container of the engine, whoever owns it. `name` has no leading slash.

    `state` is the engine's word: `running`, `exited`, `created`, ...
    """

    name: str
    state: str


def components_of(spec: Mapping[str, Any]) -> tuple[Component, ...] | None:
    """The components of a specification in its order; None of an encrypted one that is not opened."""
    name, parts = spec.get("name"), spec.get("compose")
    if not isinstance(name, str):
        return None
    if spec.get("version", 0) <= LAST_SINGLE_VERSION:
        return (Component(name, str(spec.get("containerData", ""))),)
    if not isinstance(parts, list) or not parts:
        return None
    return tuple(Component(f"{p['name']}_{name}", str(p.get("containerData", ""))) for p in parts)
