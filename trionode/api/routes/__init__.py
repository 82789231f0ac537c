"""The route table: one file per group of routes (docs/spec/api.md §2-§10)."""

from __future__ import annotations

from trionode.api.route import Route
from trionode.api.routes import (
    availability,
    benchmark,
    chain,
    documents,
    identity,
    locations,
    node,
    operator,
    own,
    peers,
    stream,
)

_DESCRIBED: tuple[Route, ...] = (
    *node.ROUTES,
    *peers.ROUTES,
    *availability.ROUTES,
    *operator.ROUTES,
    *locations.ROUTES,
    *chain.ROUTES,
    *benchmark.ROUTES,
    *identity.ROUTES,
    *stream.ROUTES,
    *own.ROUTES,
)

ROUTES: tuple[Route, ...] = (*_DESCRIBED, *documents.routes(_DESCRIBED))
"""Every route of a node, in the order of the documentation."""
