"""Apps of one owner that share a network: `networkWith:[appA,appB]` in a description.

Facts: docs/spec/lifecycle.md §14. The token is matched with ECMAScript's white space and ASCII letters
only, so that all nodes read the same description alike. Three plans come of it: what a new container is
connected to, who is connected to an app that is back, and everything once at boot.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from trionode.plans.networks import network_name
from trionode.registry.coercion import text
from trionode.wire.jsjson import truthy

SPACE = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""White space and line ends of ECMAScript."""

_TOKEN = re.compile(
    rf"(?<![A-Za-z0-9_])networkWith[{SPACE}]*[:=][{SPACE}]*\[([^\]]*)\]", re.ASCII | re.IGNORECASE
)
_NAME = re.compile(r"[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*")

Containers = Callable[[str], Sequence[str]]
"""The containers of an app, as the engine lists them."""


def named_links(description: object) -> tuple[str, ...]:
    """The apps the first well-formed token of a description names, each once, as first spelled."""
    found = _TOKEN.search(description) if isinstance(description, str) else None
    if found is None:
        return ()
    names: dict[str, str] = {}
    for entry in found.group(1).split(","):
        name = entry.strip(SPACE).strip("\"'").strip(SPACE)
        if _NAME.fullmatch(name):
            names.setdefault(name.lower(), name)
    return tuple(names.values())


def linked_apps(spec: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The apps a specification links to; never itself. A specification without a name links to none."""
    own = spec.get("name") if spec else None
    if spec is None or not truthy(own):
        return ()
    name = str(text(own)).lower()
    return tuple(link for link in named_links(spec.get("description")) if link.lower() != name)


class LinkRefusal(msgspec.Struct, frozen=True):
    """An app may not be installed: `app` is what it links to, `why` not_installed or different_owner."""

    app: str
    why: str

    @property
    def sentence(self) -> str:
        if self.why == "not_installed":
            return f"It shares a network with {self.app}, which is not installed here."
        return f"It shares a network with {self.app}, which belongs to another owner."


def refused_link(spec: Mapping[str, Any], owners: Mapping[str, Any]) -> LinkRefusal | None:
    """The install gate: every linked app must be here, spelled alike, with the same owner.

    `owners`: installed app -> owner.
    """
    for app in linked_apps(spec):
        if app not in owners:
            return LinkRefusal(app, "not_installed")
        if owners[app] != spec.get("owner"):
            return LinkRefusal(app, "different_owner")
    return None


class Connect(msgspec.Struct, frozen=True):
    """Connect a container of `app` to a network, unless it is connected."""

    app: str
    container: str
    network: str
    reason: str


class OnFailure(enum.Enum):
    """What a failed connection ends."""

    ABORT = "the whole install"
    SKIP_APP = "the rest of that app"
    GO_ON = "nothing"


class LinkPlan(msgspec.Struct, frozen=True):
    """Connections in order."""

    connects: tuple[Connect, ...] = ()
    on_failure: OnFailure = OnFailure.GO_ON

    def rest_after(self, failed: Connect) -> tuple[Connect, ...]:
        """What is still to be done when this one did not succeed."""
        rest = self.connects[self.connects.index(failed) + 1 :]
        if self.on_failure is OnFailure.ABORT:
            return ()
        if self.on_failure is OnFailure.SKIP_APP:
            return tuple(connect for connect in rest if connect.app != failed.app)
        return rest


def plan_forward(container: str, spec: Mapping[str, Any]) -> LinkPlan:
    """A container just created, not started yet: to the networks of all apps it links to."""
    app = str(spec.get("name", ""))
    return LinkPlan(
        tuple(
            Connect(app, container, network_name(link), f"{app} shares the network of {link}")
            for link in linked_apps(spec)
        ),
        OnFailure.ABORT,
    )


def plan_reverse(app: str, installed: Iterable[Mapping[str, Any]], containers: Containers) -> LinkPlan:
    """`app` is back with a new network: whoever links to it is connected again.

    Containers come from the engine's list, so apps whose specification is encrypted are found too. Owners
    are compared again: a description may have changed since the install.
    """
    wanted, rows = app.lower(), list(installed)
    owners = _owners(rows)
    return LinkPlan(
        tuple(
            connect
            for spec in rows
            if any(link.lower() == wanted for link in linked_apps(spec))
            and not _is_foreign(spec, app, owners)
            for connect in _connects(spec, (app,), containers)
        ),
        OnFailure.SKIP_APP,
    )


def plan_links(installed: Iterable[Mapping[str, Any]], containers: Containers) -> LinkPlan:
    """All links of all apps: at boot. Owners are compared again, see `plan_reverse`."""
    rows = list(installed)
    owners = _owners(rows)
    return LinkPlan(
        tuple(
            connect
            for spec in rows
            if (links := [link for link in linked_apps(spec) if not _is_foreign(spec, link, owners)])
            for connect in _connects(spec, links, containers)
        )
    )


def _owners(installed: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {str(spec["name"]): spec.get("owner") for spec in installed}


def _is_foreign(spec: Mapping[str, Any], link: str, owners: Mapping[str, Any]) -> bool:
    """Whether the linked app is here and belongs to somebody else: nobody gets into a network uninvited."""
    return link in owners and owners[link] != spec.get("owner")


def _connects(spec: Mapping[str, Any], links: Sequence[str], containers: Containers) -> list[Connect]:
    app = str(spec["name"])
    found = containers(app)
    return [
        Connect(app, container, network_name(link), f"{app} shares the network of {link}")
        for link in links
        for container in found
    ]
