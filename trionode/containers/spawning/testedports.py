"""TestedPorts: ports opened for a test, noted until they are closed again (docs/spec/lifecycle.md §18).

A test opens ports of the machine for seconds. If the node dies meanwhile, or the firewall refuses to close
one, the note tells the next test, in this life or another, what is still open and nobody's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Protocol

import msgspec

from trionode.errors import StoreError
from trionode.runtime.logs import get_logger

META = "testedPorts"

log = get_logger("containers.ports")


class MetaStore(Protocol):
    """Named values that last (`store.localapps.LocalAppStore`). Both raise StoreError."""

    async def get_meta(self, key: str) -> str | None: ...

    async def put_meta(self, key: str, value: str) -> None: ...


class TestedPorts:
    """The notes of one node. `used`: ports of apps that are here; they stay open whatever was tested."""

    def __init__(self, store: MetaStore, used: Callable[[], Collection[int]]) -> None:
        self._store = store
        self._used = used
        self._noted: frozenset[int] | None = None
        self._is_written = True
        self._testing: dict[int, None] = {}

    async def left(self) -> tuple[int, ...]:
        """Ports that an earlier test has left open and no app uses."""
        return tuple(sorted((await self._read()) - self._testing.keys() - set(self._used())))

    async def begin(self, ports: Iterable[int]) -> None:
        """These are about to be opened."""
        self._testing.update(dict.fromkeys(ports))
        await self._write((await self._read()) | self._testing.keys())

    async def end(self, ports: Iterable[int], *, closed: Iterable[int]) -> None:
        """The test of these is over; `closed` are those that are closed again."""
        for port in ports:
            self._testing.pop(port, None)
        await self._write((await self._read()) - set(closed))

    async def _read(self) -> frozenset[int]:
        if self._noted is None:
            try:
                text = await self._store.get_meta(META)
                self._noted = frozenset(msgspec.json.decode(text, type=list[int]) if text else ())
            except (StoreError, msgspec.DecodeError) as error:
                log.warning("ports left open by earlier tests are not known", problem=str(error))
                return frozenset()
        return self._noted

    async def _write(self, ports: frozenset[int]) -> None:
        if ports == self._noted and self._is_written:
            return
        self._noted, self._is_written = ports, False
        try:
            await self._store.put_meta(META, msgspec.json.encode(sorted(ports)).decode())
        except StoreError as error:
            # Written again by the next change of the notes, also by one that changes nothing.
            log.warning("ports under test are not noted", problem=error.one_line())
        else:
            self._is_written = self._noted == ports
