"""Which node runs an app with a `g:` component (docs/spec/lifecycle.md §17).

Each node decides for itself, every 30 s, with the domain managers as the arbiter. A manager that does not
answer says nothing, least of all that nobody runs the app (D-12); one app's old primary is no reason to
pass over the others, and nobody asks himself over the network (D-13).

`elect` is a generator: it yields what it needs to know and is sent the answer, so that it stays a function
of values. The result is what to do, what to remember, and why.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence

import msgspec

from trionode.lifecycle.local import Component
from trionode.lifecycle.names import bare, container_name
from trionode.wire.address import with_port

REGIONS = ("fn", "usa", "sg")
MANAGERS = "http://fdm-{region}-1-{group}.runonflux.io:16130/appips/{app}"
STEP_MS = 180_000
"""Between the starts of two ranks."""
RECEIVE, SEND = "receiveonly", "sendreceive"
_GROUPS = (("h", "n", 2), ("o", "u", 3), ("v", "z", 4))


class Member(msgspec.Struct, frozen=True):
    """A node the network lists as a place of the app; `since_ms` None counts as the oldest."""

    address: str
    since_ms: int | None = None


class Memory(msgspec.Struct, frozen=True):
    """What is kept from cycle to cycle of one app: the last known primary, and a start that is planned."""

    primary: str | None = None
    start_at_ms: int | None = None


class ElectionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One app. `ready`: its files are in sync here. `held`: in backup or restore."""

    app: str
    components: Sequence[Component]
    members: Sequence[Member]
    own_address: str
    running: frozenset[str] = frozenset()
    ready: bool = True
    held: bool = False
    now_ms: int = 0


class AskManager(msgspec.Struct, frozen=True):
    """GET this. Answer: the addresses listed; none when it knows of none (404 too); None: no answer."""

    url: str


class AskRunning(msgspec.Struct, frozen=True):
    """Ask a node which containers it runs. Answer: their names; None when it does not answer."""

    address: str


class StopApp(msgspec.Struct, frozen=True):
    """Stop all components, last first."""

    app: str
    identifiers: tuple[str, ...]
    reason: str


class StartPrimary(msgspec.Struct, frozen=True):
    """Become primary: the start sequence on the folder of `elected`, then all components again."""

    app: str
    elected: str
    identifiers: tuple[str, ...]
    reason: str

    @property
    def steps(self) -> tuple[FolderStep, ...]:
        """In order; one that must succeed and does not ends the sequence."""
        folder = container_name(self.elected)
        return (
            FolderStep("folder", folder, RECEIVE, must_succeed=False),
            FolderStep("open", folder),
            FolderStep("folder", folder, SEND),
            *(FolderStep("restart", name) for name in self.identifiers),
        )


class FolderStep(msgspec.Struct, frozen=True):
    """`folder`: set its type unless it has it; `open`: every user may write to it; `restart`: a component."""

    what: str
    target: str
    folder_type: str = ""
    must_succeed: bool = True


class Election(msgspec.Struct, frozen=True):
    """The result of one cycle for one app."""

    memory: Memory
    reason: str
    action: StopApp | StartPrimary | None = None


Need = AskManager | AskRunning
Elect = Generator[Need, Collection[str] | None, Election]


def manager_urls(app: str, form: str = MANAGERS) -> tuple[str, ...]:
    """The domain managers that answer for an app: three regions, the group by its first letter.

    `form`: their URL with `{region}`, `{group}` and `{app}`; without a region there is one of them. An
    empty one: there are none, and nobody is ever known to be the primary or not.
    """
    first = app[:1].lower()
    group = next((number for low, high, number in _GROUPS if low <= first <= high), 1)
    urls = (
        form.replace("{region}", region).replace("{group}", str(group)).replace("{app}", app)
        for region in REGIONS
    )
    return tuple(dict.fromkeys(url for url in urls if url))


def may_elect(*, busy: bool, files_in_order: bool) -> bool:
    """Whether this cycle takes place at all."""
    return files_in_order and not busy


def elected_component(components: Sequence[Component]) -> Component | None:
    """The component the election is about: the first with a true `g` flag."""
    return next((part for part in components if "g" in part.flags), None)


def ranked(members: Sequence[Member]) -> list[Member]:
    """In the order in which they start: the oldest first."""
    return sorted(members, key=lambda m: (m.since_ms is not None, m.since_ms or 0, m.address))


def elect(facts: ElectionFacts, memory: Memory, urls: Sequence[str]) -> Elect:
    """One cycle of one app."""
    part = elected_component(facts.components)
    if part is None:
        return Election(memory, "no component is elected")
    if facts.held:
        return Election(memory, "a backup or restore has the app")
    answer = yield from _primary(urls)
    if answer is None:
        return Election(memory, "no domain manager answers: not known is not nobody")
    container = container_name(part.identifier)
    if answer:
        return _with_primary(facts, part, container, _host(answer))
    if container in facts.running:
        return Election(memory, "nobody is listed, and it runs here")
    if not facts.ready:
        return Election(memory, "nobody is listed, but its files are not in sync here")
    return (yield from _without_primary(facts, memory, part, container))


def _primary(urls: Sequence[str]) -> Generator[Need, Collection[str] | None, str | None]:
    """The address listed first; "" when nobody is listed; None when no manager answered."""
    answered = False
    for url in urls:
        listed = yield AskManager(url)
        if listed:
            return next(iter(listed))
        answered = answered or listed is not None
    return "" if answered else None


def _with_primary(facts: ElectionFacts, part: Component, container: str, primary: str) -> Election:
    memory = Memory(primary)
    runs = container in facts.running
    if primary != _host(facts.own_address):
        if not runs:
            return Election(memory, f"{primary} is the primary")
        names = tuple(other.identifier for other in reversed(facts.components))
        return Election(memory, "another is", StopApp(facts.app, names, f"{primary} is the primary"))
    if runs:
        return Election(memory, "this node is the primary")
    if not facts.ready:
        return Election(memory, "this node is the primary, but its files are not in sync")
    return _started(facts, memory, part, "this node is listed as primary")


def _without_primary(
    facts: ElectionFacts, memory: Memory, part: Component, container: str
) -> Generator[Need, Collection[str] | None, Election]:
    members = ranked(facts.members)
    rank = _rank(members, facts.own_address)
    if rank is None:
        return Election(memory, "the network does not list the app here")
    if memory.start_at_ms is not None:
        if facts.now_ms < memory.start_at_ms:
            return Election(memory, f"a start is planned, at rank {rank}")
        return (yield from _take_turn(facts, memory, part, container, members[:rank]))
    if memory.primary is None:
        if rank == 0:
            return _started(facts, memory, part, "nobody ran it yet, and this node is first")
        later = Memory(None, facts.now_ms + STEP_MS * rank)
        return Election(later, f"nobody ran it yet; {rank} nodes come first")
    return (yield from _after_primary(facts, memory, part, container, members, rank))


def _after_primary(
    facts: ElectionFacts,
    memory: Memory,
    part: Component,
    container: str,
    members: Sequence[Member],
    rank: int,
) -> Generator[Need, Collection[str] | None, Election]:
    old_rank = next((n for n, m in enumerate(members) if _host(m.address) == memory.primary), None)
    if memory.primary != _host(facts.own_address):
        old = str(memory.primary) if old_rank is None else members[old_rank].address
        running = yield AskRunning(with_port(old))
        if running is not None and container in set(map(bare, running)):
            return Election(memory, f"{old} is not listed any more, but still runs it")
    if rank == 0:
        return _started(facts, memory, part, "the last primary is gone, and this node is first")
    ahead = rank - 1 if old_rank is not None and old_rank < rank else rank
    planned = Memory(memory.primary, facts.now_ms + STEP_MS * ahead)
    if ahead:
        return Election(planned, f"the last primary is gone; {ahead} nodes come first")
    return (yield from _take_turn(facts, planned, part, container, members[:rank]))


def _take_turn(
    facts: ElectionFacts, memory: Memory, part: Component, container: str, before: Sequence[Member]
) -> Generator[Need, Collection[str] | None, Election]:
    cleared = Memory(memory.primary)
    for member in before:
        running = yield AskRunning(with_port(member.address))
        if running is not None and container in set(map(bare, running)):
            return Election(cleared, f"{member.address} runs it already")
    return _started(facts, cleared, part, "it is this node's turn")


def _started(facts: ElectionFacts, memory: Memory, part: Component, reason: str) -> Election:
    names = tuple(other.identifier for other in facts.components)
    return Election(memory, reason, StartPrimary(facts.app, part.identifier, names, reason))


def _rank(members: Sequence[Member], own_address: str) -> int | None:
    own = with_port(own_address)
    return next((n for n, member in enumerate(members) if with_port(member.address) == own), None)


def _host(address: str) -> str:
    return address.partition(":")[0]
