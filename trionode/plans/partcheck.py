"""Whether containers can be made of an app at all, before anything is touched (docs/spec/lifecycle.md §13).

What is wrong is told with the component and the member it stands in, never with its content.
"""

from __future__ import annotations

from collections.abc import Sequence

from trionode.plans.containerdata import binds, parse_container_data
from trionode.plans.parts import Part
from trionode.plans.problem import PlanError, refuse
from trionode.plans.texts import odd_among


def check_parts(parts: Sequence[Part]) -> None:
    """Whether containers can be made of these components of an app. Raises PlanError."""
    identifiers = [part.identifier for part in parts]
    for number, part in enumerate(parts):
        members = {
            "repotag": (part.repotag,),
            "environmentParameters": part.environment,
            "commands": part.commands,
            "containerData": (part.container_data,),
            "secrets": (part.secrets,),
            "repoauth": (part.credentials,),
        }
        for member, texts in members.items():
            if odd := odd_among(texts):
                refuse(f"The {member} of {part.identifier} has {odd} in it.")
        try:
            binds(parse_container_data(part.container_data), identifiers, number, "/")
        except PlanError as error:
            raise PlanError(f"{part.identifier}: {error.message}", remedy=error.remedy) from None
