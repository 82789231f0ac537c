"""Dates as the API writes them: ISO-8601 UTC text with milliseconds, e.g. `2025-10-09T08:53:20.000Z`.

Times come from signed payloads of strangers, so the whole range of a JavaScript date is written, in
its form for far years (docs/spec/api.md §1.1): no announcement may break the list it appears in.
"""

from __future__ import annotations

from datetime import UTC, datetime

MAX_DATE_MS = 8_640_000_000_000_000
"""The largest distance from 1970 a JavaScript date may have; times beyond it have no date."""
MINUTE_MS = 60_000
CYCLE_YEARS = 400
CYCLE_MS = 146_097 * 86_400_000
"""The calendar repeats every 400 years, which Python's own range of years can be shifted by."""


class Dates:
    """Writes many dates quickly: those of one minute share the text before the seconds."""

    def __init__(self) -> None:
        self._minutes: dict[int, str] = {}

    def __call__(self, time_ms: float | None) -> str | None:
        """The text of a time in ms since 1970; None for None and for what is no date."""
        if time_ms is None or not -MAX_DATE_MS <= time_ms <= MAX_DATE_MS:
            return None
        minute, rest_ms = divmod(int(time_ms), MINUTE_MS)
        head = self._minutes.get(minute)
        if head is None:
            head = self._minutes[minute] = _to_the_minute(minute)
        return f"{head}{rest_ms // 1000:02d}.{rest_ms % 1000:03d}Z"


def iso(time_ms: float | None) -> str | None:
    """The text of one time."""
    return Dates()(time_ms)


def _to_the_minute(minute: int) -> str:
    """`2025-10-09T08:53:`; years outside 0-9999 get a sign and six digits."""
    cycles, within_ms = divmod(minute * MINUTE_MS, CYCLE_MS)
    moment = datetime.fromtimestamp(within_ms // 1000, UTC)
    year = moment.year + cycles * CYCLE_YEARS
    written = f"{year:04d}" if 0 <= year <= 9999 else f"{'-' if year < 0 else '+'}{abs(year):06d}"
    return f"{written}-{moment:%m-%dT%H:%M:}"
