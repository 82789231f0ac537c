"""What is installed on this node, as values: apps, their components, containers.

Facts: docs/spec/lifecycle.md §4, §13.
"""

from __future__ import annotations

import msgspec

from trionode.lifecycle.names import true_flags

RUNNING = "running"
EXITED = "exited"


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
