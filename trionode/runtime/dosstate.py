"""The node's own penalty counter, as the API shows it (docs/spec/lifecycle.md §10, api.md §2.2, §5).

It is what was `set` as a whole plus what single sources have raised (`lifecycle.dos`); setting it
forgets the sources. A sticky message overrides everything until it is cleared. Rooms below the API raise
it through the same object, handed to them as a value.
"""

from __future__ import annotations

from trionode.runtime.bus import EventBus

REFUSE_SIGN_IN_ABOVE = 10
STICKY_STATE = 100


class DosState:
    """Number and message; every change is published as `dos:changed`."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._state: float = 0
        self._message: str | None = None
        self._sticky: str | None = None
        self._name = "CONNERROR"
        self._sources: dict[str, tuple[float, str | None, str]] = {}

    @property
    def state(self) -> float:
        if self._sticky is not None:
            return STICKY_STATE
        raised = sum(amount for amount, _, _ in self._sources.values())
        return round(self._state + raised, 2) if raised else self._state

    @property
    def message(self) -> str | None:
        if self._sticky is not None:
            return self._sticky
        return self._message if self._message is not None else self._loudest()[0]

    @property
    def name(self) -> str:
        """Error name shown to people refused to sign in: `CONNERROR`, or `DOS` (api.md §2.2)."""
        if self._sticky is not None:
            return "DOS"
        return self._name if self._message is not None else self._loudest()[1]

    def _loudest(self) -> tuple[str | None, str]:
        """Message and name of the largest source that has a message."""
        told = [source for source in self._sources.values() if source[1] is not None]
        if not told:
            return None, self._name
        _, message, name = max(told, key=lambda source: source[0])
        return message, name

    def snapshot(self) -> dict[str, float | str | None]:
        """`{dosState, dosMessage}` as served."""
        return {"dosState": self.state, "dosMessage": self.message}

    def sources(self) -> dict[str, float]:
        """What single sources have raised."""
        return {source: amount for source, (amount, _, _) in self._sources.items()}

    def set(
        self, state: float, message: str | None, *, name: str = "CONNERROR", announce: bool = False
    ) -> None:
        """Set both members; `name` is `DOS` for address-detection and collision messages.

        `announce` publishes the event even when nothing changed.
        """
        before = self.snapshot()
        self._state = state
        self._message = message
        self._name = name
        self._sources.clear()
        self._publish_change(before, announce=announce)

    def put(self, source: str, amount: float, message: str | None = None, *, name: str = "CONNERROR") -> None:
        """What one source amounts to from now on; 0 takes it out."""
        before = self.snapshot()
        if amount:
            self._sources[source] = (amount, message, name)
        else:
            self._sources.pop(source, None)
        self._publish_change(before)

    def of(self, source: str) -> float:
        """What this source amounts to."""
        return self._sources.get(source, (0.0, None, ""))[0]

    def set_sticky(self, message: str | None) -> None:
        """Set or (None) clear the message that overrides everything."""
        before = self.snapshot()
        self._sticky = message
        self._publish_change(before)

    def _publish_change(self, before: dict[str, float | str | None], *, announce: bool = False) -> None:
        after = self.snapshot()
        if announce or after != before:
            self._bus.publish("dos:changed", after)

    def refuses_sign_in(self) -> bool:
        """Sign-in is refused above 10 or while any message is set."""
        return self.state > REFUSE_SIGN_IN_ABOVE or self.message is not None
