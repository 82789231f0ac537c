"""Counts the round trips: commands that clients of this process send to MongoDB and wait for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pymongo import monitoring

_NOT_COUNTED = {"hello", "ismaster", "ping", "endSessions"}


class _Listener(monitoring.CommandListener):
    def __init__(self) -> None:
        self.commands: list[str] | None = None

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if self.commands is None or event.command_name in _NOT_COUNTED:
            return
        # What nobody waits for an answer to is no round trip.
        if event.command.get("writeConcern", {}).get("w") != 0:
            self.commands.append(event.command_name)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


_listener = _Listener()
monitoring.register(_listener)  # clients made from now on tell it


@contextmanager
def commands() -> Iterator[list[str]]:
    """The names of the commands sent inside the block, in order."""
    _listener.commands = sent = []
    try:
        yield sent
    finally:
        _listener.commands = None
