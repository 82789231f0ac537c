"""trionode: an independent, wire-compatible node of the Flux network on Trio."""

__version__ = "0.1.0"

COMPATIBILITY_VERSION = "8.13.1"
"""Behaviour level reported to peers and API clients (docs/spec/README.md, wire.md §15)."""
