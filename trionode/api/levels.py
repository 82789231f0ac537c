"""The levels of access (docs/spec/api.md §2.3)."""

from __future__ import annotations

import enum


class Level(enum.Enum):
    """Who may call (api.md §2.3)."""

    PUBLIC = "public"
    USER = "user"
    ADMIN = "admin"
    TEAM = "team"
    ADMIN_OR_TEAM = "admin or team"
    OWNER = "app owner"
    OWNER_OR_ABOVE = "app owner, admin or team"


OF_AN_APP = frozenset({Level.OWNER, Level.OWNER_OR_ABOVE})
"""Levels that depend on the app a request is about."""
