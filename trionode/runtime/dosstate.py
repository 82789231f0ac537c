"""The node's own penalty counter, as the API shows it (docs/spec/lifecycle.md §10, api.md §2.2, §5).

A sticky message overrides both members until it is cleared. Rooms below the API raise it through
the same object, handed to them as a value.
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

    @property
    def state(self) -> float:
        return STICKY_STATE if self._sticky is not None else self._state

    @property
    def message(self) -> str | None:
        return self._sticky if self._sticky is not None else self._message

    @property
    def name(self) -> str:
        """Error name shown to people refused to sign in: `CONNERROR`, or `DOS` (api.md §2.2)."""
        return "DOS" if self._sticky is not None else self._name

    def snapshot(self) -> dict[str, float | str | None]:
        """`{dosState, dosMessage}` as served."""
        return {"dosState": self.state, "dosMessage": self.message}

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
        self._publish_change(before, announce=announce)

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
