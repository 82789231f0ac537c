"""The windows of the event log, already scaled (docs/spec/events.md §1).

`time_scale` stretches what makes records expire. The ages of gossip (validity, relay, dispatch, future)
stay as they are: they measure clocks and links, which do not get faster in a local network.
"""

from __future__ import annotations

from typing import Self

import msgspec

from trionode.config.tree import AppStateSettings


class Windows(msgspec.Struct, frozen=True, kw_only=True):
    """All limits the rules of the event log compare with; times in milliseconds."""

    validity_ms: int
    relay_ms: int
    dispatch_ms: int
    future_ms: int
    running_ms: int
    evicted_ms: int
    sigterm_grace_ms: int
    installing_ms: int
    own_installing_ms: int
    install_error_ms: int
    location_ms: int
    max_apps: int
    max_sync_records: int

    @classmethod
    def from_settings(cls, settings: AppStateSettings) -> Self:
        """Scale the expiry windows by `time_scale`; the gossip ages are taken as they are."""

        def scaled(window_ms: int) -> int:
            return max(1, round(window_ms * settings.time_scale))

        return cls(
            validity_ms=settings.validity_ms,
            relay_ms=settings.relay_age_ms,
            dispatch_ms=settings.dispatch_age_ms,
            future_ms=settings.max_future_ms,
            running_ms=scaled(settings.running_expiry_ms),
            evicted_ms=scaled(settings.evicted_expiry_ms),
            sigterm_grace_ms=scaled(settings.sigterm_grace_ms),
            installing_ms=scaled(settings.installing_expiry_ms),
            # The row of an own install expires after the validity, not the installing window (§7, W38).
            own_installing_ms=scaled(settings.validity_ms),
            install_error_ms=scaled(settings.install_error_expiry_ms),
            location_ms=scaled(settings.location_window_ms),
            max_apps=settings.max_apps_per_node,
            max_sync_records=settings.max_sync_records,
        )
