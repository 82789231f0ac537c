"""Images pushed anew under their tag: found by digest, redeployed softly, with pauses for the registries."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, cast

import pytest
import trio
import trio.testing
from fakeactions import FakeActions

from trionode.config.tree import ImageSettings
from trionode.containers.engine import (
    ContainerDetails,
    ContainerRow,
    Credentials,
    Engine,
    Image,
    NotFound,
)
from trionode.containers.images.registry import ImageError, ImageFault
from trionode.containers.monitors.imageupdates import ImageUpdates
from trionode.containers.operations import Operations, Work
from trionode.plans.parts import Part
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters

WEB = Part("web", "web", "web", repotag="org/web:1")
DB = Part("shop", "db", "db_shop", repotag="org/db:1")
SITE = Part("shop", "site", "site_shop", repotag="org/site:1")
LOGIN = Credentials("user", "secret")


class Machine:
    """Apps, engine and registry in one."""

    def __init__(self) -> None:
        self.here = {"web": "sha256:old", "db_shop": "sha256:old", "site_shop": "sha256:old"}
        self.there: dict[str, str | ImageFault] = dict.fromkeys(
            ("org/web:1", "org/db:1", "org/site:1"), "sha256:old"
        )
        self.more: tuple[str, ...] = ()
        """Digests under which its images were pulled once more."""
        self.asked: list[tuple[str, Credentials | None]] = []

    def names(self) -> frozenset[str]:
        return frozenset({"web", "shop"})

    async def updatable(self, app: str) -> Sequence[tuple[Part, Credentials | None]]:
        return [(WEB, None)] if app == "web" else [(DB, LOGIN), (SITE, None)]

    def rows(self) -> list[ContainerRow]:
        return [
            ContainerRow(id="1", name=f"flux{name}", image="i", image_id=image, state="running")
            for name, image in self.here.items()
        ]

    async def inspect(self, container: str) -> ContainerDetails:
        identifier = container.removeprefix("flux")
        if identifier not in self.here:
            raise NotFound("no such container")
        image = self.here[identifier]
        return ContainerDetails(id="1", name=container, image="i", image_id=image, state="running")

    async def image(self, repotag: str) -> Image:
        digests = (repotag, *self.more) if repotag else ()
        return Image(id=repotag, digests=tuple(f"org/any@{digest}" for digest in digests))

    async def digest(self, repotag: str, credentials: Credentials | None = None) -> str:
        await trio.lowlevel.checkpoint()
        self.asked.append((repotag, credentials))
        answer = self.there[repotag]
        if isinstance(answer, ImageFault):
            raise ImageError(answer, "the registry says no")
        return answer


class Updating:
    """The service for a few virtual hours, and what the bus was told."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.actions = FakeActions()
        self.operations = Operations()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.bus = EventBus(ring=100)

    async def run_for(self, seconds: float) -> None:
        self.service = service = ImageUpdates(
            ImageSettings(),
            apps=self.machine,
            digests=self.machine,
            engine=cast("Engine", self.machine),
            actions=self.actions,
            operations=self.operations,
            bus=self.bus,
            counters=Counters(),
            rng=random.Random(1),
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run)
            await trio.sleep(seconds)
            nursery.cancel_scope.cancel()
        self.events = [(event.name.partition(":")[2], dict(event.data)) for event in self.bus.replay(0)]


@pytest.mark.trio
async def test_the_same_digest_changes_nothing(autojump_clock: trio.testing.MockClock) -> None:
    updating = Updating(Machine())
    await updating.run_for(1900)
    assert updating.actions.done == []
    assert updating.events == [("checked", {"appsChecked": 2, "updatesTriggered": 0})]
    assert ("org/db:1", LOGIN) in updating.machine.asked


@pytest.mark.trio
async def test_any_new_component_redeploys_the_whole_app_softly(
    autojump_clock: trio.testing.MockClock,
) -> None:
    updating = Updating(Machine())
    updating.machine.there["org/site:1"] = "sha256:new"
    await updating.run_for(2100)
    assert updating.actions.done == [("soft", "shop")]
    assert updating.events == [
        ("redeployTriggered", {"appName": "shop"}),
        ("redeployComplete", {"appName": "shop"}),
        ("checked", {"appsChecked": 2, "updatesTriggered": 1}),
    ]


@pytest.mark.trio
async def test_a_limit_of_the_registry_ends_the_cycle(autojump_clock: trio.testing.MockClock) -> None:
    updating = Updating(Machine())
    updating.machine.there["org/db:1"] = ImageFault.RATE_LIMITED
    updating.machine.there["org/web:1"] = "sha256:new"
    await updating.run_for(2100)
    assert updating.actions.done == []
    assert updating.events[-1] == ("checked", {"appsChecked": 1, "updatesTriggered": 0})
    updating.machine.there["org/db:1"] = ImageFault.UNREACHABLE
    await updating.run_for(2100)
    assert updating.actions.done == [("soft", "web")]


@pytest.mark.trio
@pytest.mark.parametrize("what", ["gone", "never pulled", "failed", "busy"])
async def test_what_stands_in_the_way(autojump_clock: trio.testing.MockClock, what: str) -> None:
    updating = Updating(Machine())
    machine = updating.machine
    machine.there["org/web:1"] = "sha256:new"
    if what == "gone":
        del machine.here["web"]
    elif what == "never pulled":
        machine.here["web"] = ""
    elif what == "failed":
        updating.actions.problem = "no space left"
    if what == "busy":
        with updating.operations.doing(Work.INSTALL, "other"):
            await updating.run_for(2100)
        assert updating.events == [("checked", {"appsChecked": 0, "updatesTriggered": 0})]
    else:
        await updating.run_for(2100)
        names = [name for name, _ in updating.events]
        assert names == (["redeployTriggered", "checked"] if what == "failed" else ["checked"])


@pytest.mark.trio
async def test_the_next_cycle_comes_hours_later(autojump_clock: trio.testing.MockClock) -> None:
    updating = Updating(Machine())
    await updating.run_for(1900 + 21_600)
    assert [name for name, _ in updating.events] == ["checked", "checked"]


@pytest.mark.trio
async def test_the_plan_tells_an_update_that_failed_until_its_image_is_another(
    autojump_clock: trio.testing.MockClock,
) -> None:
    updating = Updating(Machine())
    machine, updating.actions.problem = updating.machine, "no space left"
    machine.there["org/site:1"] = "sha256:new"
    await updating.run_for(2100)
    asked = len(machine.asked)
    (step,) = updating.service.plan(machine.rows())
    assert (step.kind, step.app, step.component) == ("redeploy_soft", "shop", "site_shop")
    assert step.due_s is not None
    assert step.due_s > trio.current_time() + 20_000
    machine.here["site_shop"] = "sha256:other"
    assert updating.service.plan(machine.rows()) == (), "made anew since, and nobody compared it"
    del machine.here["site_shop"]
    assert updating.service.plan(machine.rows()) == ()
    assert len(machine.asked) == asked


@pytest.mark.trio
async def test_an_image_pulled_under_several_digests_is_new_by_none_of_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Only its index changed: another architecture was built anew."""
    updating = Updating(Machine())
    updating.machine.there["org/site:1"] = "sha256:later"
    updating.machine.more = ("sha256:later",)
    await updating.run_for(2 * 21_600)
    assert updating.actions.done == []


@pytest.mark.trio
async def test_a_digest_that_a_redeploy_does_not_bring_is_no_reason_for_another(
    autojump_clock: trio.testing.MockClock,
) -> None:
    updating = Updating(Machine())
    updating.machine.there["org/site:1"] = "sha256:never"
    await updating.run_for(5 * 21_600)
    assert updating.actions.done == [("soft", "shop")]


@pytest.mark.trio
async def test_the_plan_does_not_tell_a_digest_that_was_brought_already(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A registry may name an image otherwise than the engine does, and a redeploy changes nothing of that."""
    updating = Updating(Machine())
    updating.machine.there["org/web:1"] = "sha256:new"
    await updating.run_for(2100)
    assert updating.actions.done == [("soft", "web")]
    assert updating.service.plan(updating.machine.rows()) == ()
