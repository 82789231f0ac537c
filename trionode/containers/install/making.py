"""What a new container is made of: environment, command, log driver, address (lifecycle.md §13, §14).

The facts are gathered here, `plans.createoptions` turns them into options. Environment and command may hold
secrets, so what the engine says about them is cleaned before anybody reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from trionode.containers.actions import Progress, Spec
from trionode.containers.engine import Credentials, EngineInfo, NotFound
from trionode.containers.images.logins import Logins
from trionode.containers.install.workbench import Workbench
from trionode.lifecycle.names import containers_of
from trionode.plans.createoptions import CreateOptions, create_options, may_burst
from trionode.plans.environment import (
    COMMAND_MARK,
    ENVIRONMENT_MARK,
    Fetched,
    command,
    environment,
    open_secrets,
    storage_url,
)
from trionode.plans.logs import Collector, HostIdentity, LogFile, LogShipping, collector_of, plan_log
from trionode.plans.networks import NetworkState, network_name, next_free_address
from trionode.plans.parts import Part
from trionode.plans.requirements import NodeFacts
from trionode.wire.address import split_address


class Gathered(msgspec.Struct, frozen=True):
    """Environment and command of a container, whole: with what was fetched and decrypted."""

    environment: tuple[str, ...]
    command: tuple[str, ...]

    def __repr__(self) -> str:
        return "Gathered(...)"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """An app being installed. `parts`: all of its components in order, with the values of this tier.

    `gathered`: by identifier, what was fetched before. `foreign`: its images that were here before, for no
    app of ours; None: whatever was here stays.
    """

    spec: Spec
    parts: tuple[Part, ...]
    facts: NodeFacts
    info: EngineInfo
    progress: Progress
    test: bool = False
    gathered: Mapping[str, Gathered] = {}
    foreign: frozenset[str] | None = None

    @property
    def app(self) -> str:
        return str(self.spec["name"])

    @property
    def hash(self) -> str:
        return str(self.spec.get("hash", ""))

    def tell(self, sentence: str) -> None:
        self.progress.tell({"status": sentence})

    def __repr__(self) -> str:
        # the specification may hold secrets
        return f"Job({self.app!r})"


async def container_options(bench: Workbench, job: Job, part: Part) -> CreateOptions:
    """Raises PlanError, EngineError, or HostError when something cannot be fetched."""
    texts = job.gathered.get(part.identifier) or await gather(bench, job, part)
    network = await network_state(bench, job.app)
    return create_options(
        part,
        [each.identifier for each in job.parts],
        environment=texts.environment,
        command=texts.command,
        log=await _log(bench, job, part, network),
        network=network,
        apps_dir=bench.disk.apps_dir,
        host_service_ip=bench.host_service_ip,
        bursts=bursts(bench, job),
        disk_quota=job.info.disk_quota,
    )


async def gather(bench: Workbench, job: Job, part: Part) -> Gathered:
    """Fetch and decrypt. Raises PlanError, or HostError when that cannot be done now."""
    own_ip = split_address(job.facts.address)[0] if job.facts.address else None
    secrets: Sequence[str] = ()
    if part.secrets:
        secrets = open_secrets(await bench.secrets.clear(part.secrets, app=job.app))
    variables = environment(
        part.environment,
        app=job.app,
        own_ip=own_ip,
        secrets=secrets,
        fetched=await _fetched(bench, job, (*part.environment, *secrets), ENVIRONMENT_MARK),
    )
    words = command(part.commands, await _fetched(bench, job, part.commands, COMMAND_MARK))
    return Gathered(variables, words)


def bursts(bench: Workbench, job: Job) -> bool:
    """Whether containers of this app may use spare CPU."""
    owner = job.spec.get("owner")
    return may_burst(owner, bench.enterprise_owners, supported=bench.resources.cpu_burst)


async def network_state(bench: Workbench, app: str) -> NetworkState | None:
    """The network of an app with all addresses given away, also those of containers that do not run."""
    name = network_name(app)
    try:
        network = await bench.engine.network(name)
    except NotFound:
        return None
    taken = set(network.endpoints.values())
    listed = [row.name for row in await bench.engine.containers()]
    for container in containers_of(app, listed):
        if container in network.endpoints:
            continue
        try:
            details = await bench.engine.inspect(container)
        except NotFound:
            continue  # it went meanwhile
        taken.add(details.addresses.get(name, ""))
    return NetworkState(network.subnet, network.gateway, frozenset(taken - {""}))


async def _fetched(bench: Workbench, job: Job, entries: Sequence[str], mark: str) -> Fetched | None:
    url = storage_url(entries, mark)
    if url is None:
        return None
    job.tell(f"Fetching what {mark.removesuffix('=')} of {job.app} names...")
    return await bench.storage.fetch(url, app=job.app)


async def _log(bench: Workbench, job: Job, part: Part, network: NetworkState | None) -> LogFile | LogShipping:
    collector = collector_of(part, job.spec, bench.installed.opened_now)
    if collector is None:
        return LogFile()
    if (collector.app, collector.component) == (part.app, part.name):
        return plan_log(part, next_free_address(network), _identity(job.facts))
    return plan_log(part, await _address_of(bench, collector, part.app), _identity(job.facts))


async def _address_of(bench: Workbench, collector: Collector, app: str) -> str | None:
    """Where a collector listens: in the common network, of a linked app in the first one it has."""
    try:
        details = await bench.engine.inspect(collector.container)
    except NotFound:
        return None
    addresses = details.addresses
    own = network_name(app) if collector.app == app else None
    found = addresses.get(own) if own is not None else next(iter(addresses.values()), None)
    return found or None


def _identity(facts: NodeFacts) -> HostIdentity | None:
    if not facts.collateral or not facts.address:
        return None
    return HostIdentity(facts.collateral.replace(":", ""), facts.address)


async def credentials_of(bench: Workbench, job: Job, part: Part) -> Credentials | None:
    """The login at the registry of its image. Raises PlanError or HostError, without the text."""
    return await Logins(bench.secrets, lambda app: job.spec.get("version")).of(part)
