"""Logins for image registries, out of the specification of an app (docs/spec/registry.md §6).

In version 7 each is encrypted for the nodes the app names; later versions hide the whole specification.
"""

from __future__ import annotations

from collections.abc import Callable

from trionode.containers.engine import Credentials
from trionode.containers.install.workbench import Secrets
from trionode.plans.parts import Part
from trionode.plans.problem import refuse
from trionode.plans.texts import odd_in

SECRETS_VERSION = 7


class Logins:
    """`version_of(app)`: the version of its specification, None when it is not known."""

    def __init__(self, secrets: Secrets, version_of: Callable[[str], int | None]) -> None:
        self._secrets = secrets
        self._version_of = version_of

    async def of(self, part: Part) -> Credentials | None:
        """None without one. Raises PlanError or HostError when it cannot be read; they never name it."""
        text = part.credentials
        if not text:
            return None
        if self._version_of(part.app) == SECRETS_VERSION:
            text = await self._secrets.clear(text, app=part.app)
        username, separator, password = text.strip().partition(":")
        if not separator or not username:
            refuse(f"The registry login of {part.identifier} is not of the form name:password.")
        if odd := odd_in(text):
            refuse(f"The registry login of {part.identifier} has {odd} in it.")
        return Credentials(username, password)
