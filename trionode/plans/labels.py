"""The labels that say whose an object of the engine is: nothing is ever pruned without them."""

from __future__ import annotations

OWNER = "trionode.app"
"""The app."""
PART = "trionode.component"
"""The component: its identifier."""
