"""Apps of simulated owners: specifications, registrations and updates, signed (registry.md §5, §6)."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from trionode.registry.messages import AppMessage, app_message, signed_text
from trionode.sim.sealing import seal_spec
from trionode.wire.jsjson import stringify
from trionode.wire.keys import NodeKey

FIRST_PORT = 31_000
FIRST_MS = 1_750_000_000_000
IMAGE = "registry.sim/web:1"


class PartPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One component."""

    name: str = "web"
    image: str = IMAGE
    data: str = "/data"
    port: int = 0
    """0: the next one of the owner."""
    environment: tuple[str, ...] = ()
    cpu: float = 0.1
    ram_mb: int = 100
    hdd_gb: int = 1


class AppPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What an owner wants. `sealed`: encrypted, for secure nodes only."""

    name: str
    parts: tuple[PartPlan, ...] = (PartPlan(),)
    instances: int = 3
    sealed: bool = False
    static_ip: bool = False
    datacenter: bool = False
    expire: int = 88_000
    description: str = "an app of the simulator"

    @property
    def containers(self) -> tuple[str, ...]:
        return tuple(f"flux{part.name}_{self.name}" for part in self.parts)


class Owner:
    """Registers apps. The same seed gives the same messages."""

    def __init__(self, seed: str) -> None:
        self._rng = random.Random(f"{seed}/owner")
        self.key = NodeKey.generate(self._rng, compressed=True)
        self._ports = FIRST_PORT
        self._told = 0
        self._ports_of: dict[str, dict[str, int]] = {}

    @property
    def ports(self) -> dict[str, list[int]]:
        """Ports of every app there ever was."""
        return {app: list(ports.values()) for app, ports in self._ports_of.items()}

    def register(self, plan: AppPlan) -> AppMessage:
        return self._message("fluxappregister", plan)

    def update(self, plan: AppPlan, now_ms: int) -> AppMessage:
        """The same app from now on as `plan` says."""
        return self._message("fluxappupdate", plan, now_ms)

    def _message(self, kind: str, plan: AppPlan, now_ms: int | None = None) -> AppMessage:
        self._told += 1
        spec = self._spec(plan)
        timestamp_ms = (FIRST_MS if now_ms is None else now_ms) + self._told
        signature = self.key.sign(signed_text(kind, 1, stringify(spec), timestamp_ms))
        return app_message(kind, 1, spec, timestamp_ms, signature)

    def _spec(self, plan: AppPlan) -> dict[str, Any]:
        spec: dict[str, Any] = {
            "version": 8,
            "name": plan.name,
            "description": plan.description,
            "owner": self.key.address,
            "compose": [self._part(plan.name, part) for part in plan.parts],
            "instances": plan.instances,
            "contacts": [],
            "geolocation": [],
            "expire": plan.expire,
            "nodes": [],
            "staticip": plan.static_ip,
            "enterprise": "",
            **({"datacenter": True} if plan.datacenter else {}),
        }
        return seal_spec(spec, self._rng) if plan.sealed else spec

    def _part(self, app: str, part: PartPlan) -> dict[str, Any]:
        known = self._ports_of.setdefault(app, {})
        if part.name not in known:
            known[part.name] = part.port or self._ports
            self._ports += 1
        return {
            "name": part.name,
            "description": "a component",
            "repotag": part.image,
            "ports": [known[part.name]],
            "domains": [""],
            "environmentParameters": list(part.environment),
            "commands": [],
            "containerPorts": [80],
            "containerData": part.data,
            "cpu": part.cpu,
            "ram": part.ram_mb,
            "hdd": part.hdd_gb,
            "repoauth": "",
        }
