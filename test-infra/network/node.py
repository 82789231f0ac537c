"""The handle of one node: its process, its API, its events, its link to the network."""

from __future__ import annotations

import json
import signal
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import trio

from network.env import admin_of
from network.events import Event, EventReader, Wanted
from network.http import Answer, Caller, Unanswered
from network.namespace import Namespace
from network.processes import Running
from trionode.devnet.layout import API_PORT, NodePlace
from trionode.devnet.processes import module_command
from trionode.wire.keys import NodeKey

UP_WITHIN_S = 90.0
PATIENCE = 4.0
"""`within_s` is what a machine needs that has little else to do; a busy one is given so many times as long.
A deadline costs nothing when things work."""
READ_WITHIN_S = 60.0
LOOK_EVERY_S = 0.1
SHOWN_EVENTS = 25
SHOWN_LOG_CHARS = 4000
SHOWN_ANSWER_CHARS = 2000


def _has(wanted: Mapping[str, Any], where: Wanted | None = None) -> Wanted:
    """Whether an event has these members, and `where` holds for it."""

    def fits(data: Mapping[str, Any]) -> bool:
        same = all(key in data and data[key] == value for key, value in wanted.items())
        return same and (where is None or where(data))

    return fits


def going_down(place: NodePlace) -> Path:
    """The file by which a node sees that its machine, and not only its process, is being stopped."""
    return place.folder / "going-down"


class NodeProcess:
    """What of a node outlives a test: its place on disk and its process."""

    def __init__(self, place: NodePlace, namespace: Namespace | None) -> None:
        self.place = place
        self._namespace = namespace
        self.running: Running | None = None

    @property
    def runs(self) -> bool:
        return self.running is not None and self.running.returncode is None

    def start(self) -> None:
        assert not self.runs, f"node {self.place.number} runs already"
        command = module_command("trionode", "--config", str(self.place.config), "run")
        self.running = Running(command, self.place.log, self._namespace)

    def signal(self, number: int) -> None:
        if self.running is not None:
            self.running.send_signal(number)

    def cut(self) -> None:
        """Take the node's links and its RPC away; the harness still reaches it."""
        if self._namespace is not None:
            self._namespace.cut(self.place.ip)
        else:
            self.signal(signal.SIGSTOP)

    def mend(self) -> None:
        if self._namespace is not None:
            self._namespace.mend(self.place.ip)
        else:
            self.signal(signal.SIGCONT)


class Node:
    """One node as a test sees it. `ip` is its address, `number` its place in the node list."""

    def __init__(self, process: NodeProcess, caller: Caller) -> None:
        self._process = process
        self._caller = caller
        self.place = process.place
        self.number = process.place.number
        self.ip = process.place.ip
        self.admin = admin_of(self.number)
        self.reader = EventReader(caller, self.ip, API_PORT)

    def __repr__(self) -> str:
        return f"node {self.number}"

    # --- process ----------------------------------------------------------------------------

    @property
    def runs(self) -> bool:
        return self._process.runs

    async def start(self) -> None:
        """Start the process and wait until the API answers."""
        self.reader.restart()
        self._process.start()
        await self.up()

    async def up(self, within_s: float = UP_WITHIN_S) -> None:
        """Wait until the API answers."""
        with trio.move_on_after(within_s * PATIENCE):
            while True:
                assert self._process.runs, f"{self} has ended\n{self.log_tail()}"
                try:
                    answer = await self._caller.ask(self.ip, API_PORT, "GET", "/flux/version", within_s=5.0)
                    if answer.status == 200:
                        return
                except Unanswered:
                    pass
                await trio.sleep(LOOK_EVERY_S)
        raise AssertionError(f"{self} did not come up within {within_s:g} s\n{self.log_tail()}")

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop the process by a signal; the exit code."""
        assert self._process.running is not None
        self._process.signal(number)
        return await self._process.running.wait()

    async def restart(self, number: int = signal.SIGTERM) -> None:
        """Stop (by that signal) and start again; its events count from 1 again."""
        await self.stop(number)
        await self.start()

    async def shut_down(self) -> int:
        """The machine goes down: the node is told so and stops; the exit code."""
        going_down(self.place).touch()
        return await self.stop()

    async def boot(self, boot_id: str) -> None:
        """The machine comes up again."""
        going_down(self.place).unlink(missing_ok=True)
        self.set_boot_id(boot_id)
        await self.start()

    def set_up(self, settings: Mapping[str, Any]) -> None:
        """Change settings (`section.key`); the node has them from its next start on."""
        tree: dict[str, dict[str, Any]] = tomllib.loads(self.place.config.read_text("utf-8"))
        for dotted, value in settings.items():
            section, _, name = dotted.partition(".")
            tree.setdefault(section, {})[name] = value
        lines: list[str] = []
        for section, values in tree.items():
            # A JSON scalar or list of scalars is TOML of the same value.
            lines += [f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
        self.place.config.write_text("\n".join(lines) + "\n", "utf-8")

    def set_boot_id(self, text: str) -> None:
        """What the node will believe to be the machine's boot id at its next start."""
        self.place.boot_id.write_text(text + "\n", "ascii")

    def cut(self) -> None:
        """Detach from the network: no links, no RPC. The harness still reaches it."""
        self._process.cut()

    def mend(self) -> None:
        """Attach to the network again."""
        self._process.mend()

    def log_text(self) -> str:
        return self.place.log.read_text("utf-8")

    def log_tail(self) -> str:
        return f"--- log of {self}\n{self.log_text()[-SHOWN_LOG_CHARS:]}"

    # --- events -----------------------------------------------------------------------------

    async def mark(self) -> int:
        """The id of the newest event: whatever happens from now on has a greater one."""
        return int((await self.data("/trionode/status"))["events"]["lastId"])

    async def event(
        self, name: str, /, *, after: int | Event, within_s: float, where: Wanted | None = None, **wanted: Any
    ) -> Event:
        """The first event behind `after` with these members; waits for it, fails when it does not come."""
        bound = after.id if isinstance(after, Event) else after
        fits = _has(wanted, where)
        with trio.move_on_after(within_s * PATIENCE):
            return await self.reader.event(name, after=bound, where=fits)
        shown = "\n".join(f"  {e.id} {e.name} {dict(e.data)}" for e in self.reader.recent[-SHOWN_EVENTS:])
        raise AssertionError(
            f"{self}: no {name} {wanted or ''} behind event {bound} within {within_s:g} s; the newest:\n"
            f"{shown}\n{self.log_tail()}"
        )

    async def no_event(self, name: str, /, *, after: int | Event, for_s: float, **wanted: Any) -> None:
        """Fails when such an event is there or comes within that time, however late it is read."""
        fits, found = _has(wanted), None
        bound = after.id if isinstance(after, Event) else after
        with trio.move_on_after(for_s):
            found = await self.reader.event(name, after=bound, where=fits)
        late = [event for event in await self.seen(name, after=bound) if fits(event.data)]
        assert found is None, f"{self}: unexpected {found}"
        assert not late, f"{self}: unexpected {late}"

    async def seen(self, *names: str, after: int | Event) -> list[Event]:
        """All events with these names behind `after` up to now, in order."""
        bound = after.id if isinstance(after, Event) else after
        newest = await self.mark()
        if newest > bound:
            with trio.fail_after(READ_WITHIN_S):
                while not self.reader.recent or self.reader.recent[-1].id < newest:
                    await self.reader.news()
        return self.reader.between(bound, newest, *names)

    # --- API --------------------------------------------------------------------------------

    async def ask(
        self, method: str, path: str, body: Any = None, *, session: str | None = None
    ) -> dict[str, Any]:
        """The whole envelope of an answer, never a cached one; bodies go as text/plain, as from clients."""
        headers = {"x-apicache-bypass": "1", "Content-Type": "text/plain"}
        if session is not None:
            headers["zelidauth"] = session
        content = b"" if body is None else json.dumps(body).encode()
        answer: Answer = await self._caller.ask(self.ip, API_PORT, method, path, content, headers)
        envelope = answer.json
        assert isinstance(envelope, dict), (path, answer)
        return envelope

    async def data(self, path: str) -> Any:
        """`data` of a successful answer."""
        answer = await self.ask("GET", path)
        assert answer["status"] == "success", (path, answer)
        return answer["data"]

    async def until(self, path: str, holds: Callable[[Any], bool], within_s: float) -> Any:
        """Ask again and again until it is so: for what has no event of its own."""
        found: Any = None
        with trio.move_on_after(within_s * PATIENCE):
            while True:
                try:
                    answer = await self.ask("GET", path)
                    found = answer["data"]
                    if answer["status"] == "success" and holds(found):
                        return found
                except Unanswered as error:
                    found = error
                await trio.sleep(LOOK_EVERY_S)
        shown = repr(found)[:SHOWN_ANSWER_CHARS]
        raise AssertionError(f"{self} {path}: not within {within_s:g} s, last {shown}\n{self.log_tail()}")

    async def orchestrator(self) -> dict[str, Any]:
        """Phase, counted blocks and what the node waits for."""
        return dict((await self.data("/trionode/status"))["orchestrator"])

    async def in_phase(self, phase: str, within_s: float) -> None:
        """Wait until the node is in that phase; for the start of a test, never for its outcome."""
        await self.until("/trionode/status", lambda s: s["orchestrator"]["phase"] == phase, within_s)

    async def enters(self, phase: str, *, after: int | Event, within_s: float) -> Event:
        """Wait for the change to that phase."""
        return await self.event("orchestrator:stateChanged", after=after, within_s=within_s, to=phase)

    async def sign_in(self, person: NodeKey) -> str:
        """Sign in; the session for later requests."""
        phrase = (await self.ask("GET", "/id/emergencyphrase"))["data"]
        session = {"zelid": person.address, "loginPhrase": phrase, "signature": person.sign(phrase)}
        answer = await self.ask("POST", "/id/verifylogin", session)
        assert answer["status"] == "success", answer
        return urlencode(session)

    async def links(self) -> tuple[set[str], set[str]]:
        """The peers it dialled and the peers that dialled it, at one moment."""
        rows = await self.data("/flux/peers")
        ways = ("outbound", "inbound")
        outbound, inbound = ({row["ip"] for row in rows if row["direction"] == way} for way in ways)
        return outbound, inbound
