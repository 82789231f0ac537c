"""What the registry needs of rooms above it, as ports (docs/spec/registry.md §8, §10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from trionode.registry.housekeeping import Life
from trionode.registry.signatures import Spec


class EnterpriseOpener(Protocol):
    """Opens enterprise specifications; only secure nodes have one."""

    async def open(self, spec: Spec, height: int) -> Spec | None:
        """The specification with its compose and contacts in clear; None when that cannot be done."""
        ...


class LocalApps(Protocol):
    """The apps installed on this node."""

    @property
    def builtin_names(self) -> Sequence[str]:
        """Names of apps that are not registered but come with the node."""
        ...

    def installed(self) -> Sequence[Life]:
        """What is installed, as it was registered."""
        ...

    async def remove(self, names: Sequence[str]) -> None:
        """Uninstall, soon and one after the other, telling the peers."""
        ...


class NoLocalApps:
    """A node that hosts nothing."""

    builtin_names: Sequence[str] = ()

    def installed(self) -> Sequence[Life]:
        return ()

    async def remove(self, names: Sequence[str]) -> None:
        return None
