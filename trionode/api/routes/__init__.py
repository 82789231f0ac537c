"""The route table: one file per group of routes (docs/spec/api.md §2-§10)."""

from __future__ import annotations

from trionode.api.route import Route
from trionode.api.routes import (
    appcontrol,
    apphold,
    appinstall,
    applogs,
    appremoval,
    availability,
    benchmark,
    chain,
    containers,
    documents,
    explorer,
    identity,
    locations,
    maintenance,
    node,
    operator,
    own,
    own_containers,
    own_spawner,
    peers,
    registry,
    registry_info,
    registry_submit,
    stream,
)

_DESCRIBED: tuple[Route, ...] = (
    *node.ROUTES,
    *peers.ROUTES,
    *availability.ROUTES,
    *operator.ROUTES,
    *locations.ROUTES,
    *registry.ROUTES,
    *registry_info.ROUTES,
    *registry_submit.ROUTES,
    *containers.ROUTES,
    *appcontrol.ROUTES,
    *appremoval.ROUTES,
    *appinstall.ROUTES,
    *applogs.ROUTES,
    *maintenance.ROUTES,
    *explorer.ROUTES,
    *chain.ROUTES,
    *benchmark.ROUTES,
    *identity.ROUTES,
    *stream.ROUTES,
    *own.ROUTES,
    *own_containers.ROUTES,
    *apphold.ROUTES,
    *own_spawner.ROUTES,
)

ROUTES: tuple[Route, ...] = (*_DESCRIBED, *documents.routes(_DESCRIBED))
"""Every route of a node, in the order of the documentation."""
