"""Where the output of a container goes: a file of the engine, or the collector of the owner.

Facts: docs/spec/lifecycle.md §14. A component whose environment begins `LOG=SEND` ships to the component
with `LOG=COLLECT`, of its own app or of the first linked one that has one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from trionode.lifecycle.names import container_name
from trionode.plans.networkwith import linked_apps
from trionode.plans.parts import ENVIRONMENT_KEYS, Part
from trionode.plans.problem import NotKnownYet

SEND = "LOG=SEND"
COLLECT = "LOG=COLLECT"
COLLECTOR_PORT = 514


class Collector(msgspec.Struct, frozen=True):
    """The component that collects."""

    app: str
    component: str

    @property
    def container(self) -> str:
        """Its container, right also for names that get no prefix (D-1)."""
        return container_name(f"{self.component}_{self.app}")


class HostIdentity(msgspec.Struct, frozen=True):
    """Who we are to a collector. `id`: collateral hash and index together; `address`: ip:port."""

    id: str
    address: str


class LogFile(msgspec.Struct, frozen=True):
    """The engine keeps one small file."""

    def config(self) -> dict[str, Any]:
        return {"Type": "json-file", "Config": {"max-file": "1", "max-size": "20m"}}


class LogShipping(msgspec.Struct, frozen=True):
    """Each line leaves as a GELF datagram."""

    address: str
    tag: str
    labels: tuple[tuple[str, str], ...]

    def config(self) -> dict[str, Any]:
        return {
            "Type": "gelf",
            "Config": {
                "gelf-address": f"udp://{self.address}:{COLLECTOR_PORT}",
                "gelf-compression-type": "none",
                "tag": self.tag,
                "labels": ",".join(name for name, _ in self.labels),
            },
        }


SpecOf = Callable[[str], Mapping[str, Any] | None]
"""The opened specification of an installed app; None when it is not here or cannot be read."""


def is_marked(entries: Sequence[Any], mark: str) -> bool:
    """Whether an environment holds an entry that begins with the mark."""
    return any(isinstance(entry, str) and entry.startswith(mark) for entry in entries)


def own_collector(spec: Mapping[str, Any]) -> Collector | None:
    """The collector of an app among its own components."""
    return _collector_in(spec, str(spec.get("name", "")), ENVIRONMENT_KEYS[:1])


def linked_collector(spec: Mapping[str, Any], spec_of: SpecOf) -> Collector | None:
    """The collector of the first linked app that has one; apps that cannot be read are passed over."""
    for app in linked_apps(spec):
        other = spec_of(app)
        found = None if other is None else _collector_in(other, app, ENVIRONMENT_KEYS)
        if found is not None:
            return found
    return None


def collector_of(part: Part, spec: Mapping[str, Any], spec_of: SpecOf) -> Collector | None:
    """The collector a component ships to; itself when it is the collector; None: it does not ship."""
    if not is_marked(part.environment, SEND) and not is_marked(part.environment, COLLECT):
        return None
    return own_collector(spec) or (
        linked_collector(spec, spec_of) if is_marked(part.environment, SEND) else None
    )


def plan_log(part: Part, address: str | None, identity: HostIdentity | None) -> LogFile | LogShipping:
    """How a component logs. `address`: that of its collector, None when there is none or it has none.

    Raises NotKnownYet while this node cannot say who it is.
    """
    if address is None:
        return LogFile()
    if identity is None:
        raise NotKnownYet(
            "Logs cannot be sent: the collateral or the address of this node is not known yet.",
            remedy="wait until the node is confirmed",
        )
    labels = (("app_name", part.app), ("host_id", identity.id), ("host_ip", identity.address))
    return LogShipping(address, part.name, labels)


def _collector_in(spec: Mapping[str, Any], app: str, keys: Sequence[str]) -> Collector | None:
    for entry in spec.get("compose") or ():
        if any(is_marked(entry.get(key) or (), COLLECT) for key in keys):
            return Collector(app, str(entry.get("name", "")))
    return None
