"""The real seams of the containers, opened for the life of a node (docs/containers.md).

Nothing here waits for the engine: whether it is there is seen when somebody asks it. A node whose setting
`hosting.engine` is "none" opens none of this, and loads nothing of it either.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from trionode.chain.port import ChainRpc
from trionode.config.tree import Settings
from trionode.containers.parts import ContainerSeams
from trionode.errors import ConfigError
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.store.localapps import LocalAppStore
from trionode.sync.source import NodeHttp
from trionode.wire.keys import NodeKey

APPS_FOLDER = "apps"


@asynccontextmanager
async def open_seams(
    settings: Settings,
    *,
    folder: Path,
    local: LocalAppStore,
    nodes: NodeHttp,
    key: NodeKey,
    bench: ChainRpc,
    clock: WallClock,
    source_ip: str | None = None,
) -> AsyncIterator[ContainerSeams]:
    """For the length of a block. `folder`: the data folder. Raises ConfigError."""
    import httpx

    from trionode.chain.enterprise import BenchOpener
    from trionode.containers.docker.engine import open_docker
    from trionode.containers.images.http import open_image_registry
    from trionode.containers.install.storage import HttpStorage
    from trionode.containers.machine.linuxdisk import LinuxDisk
    from trionode.containers.machine.linuxfirewall import LinuxFirewall
    from trionode.containers.machine.listeners import TcpListeners
    from trionode.containers.monitors.electorate import HttpElectorate
    from trionode.containers.node.outside import OutsideHttp
    from trionode.containers.node.publichosts import PublicHosts
    from trionode.plans.volumes import space_rules

    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        client = await enter(httpx.AsyncClient(trust_env=False, timeout=settings.services.http_timeout_s))
        yield ContainerSeams(
            engine=await enter(open_docker(settings.hosting.engine_url)),
            disk=LinuxDisk(str(apps_folder(settings, folder)), rules=space_rules(settings.resources)),
            firewall=LinuxFirewall(),
            images=await enter(
                open_image_registry(
                    max_image_bytes=settings.registry.max_image_bytes,
                    token_margin_s=settings.images.registry_token_margin_s,
                )
            ),
            local=local,
            storage=HttpStorage(
                client,
                key,
                clock,
                limit_bytes=settings.installer.storage_limit_bytes,
                hosts=PublicHosts(allow_private=settings.network.allow_private_addresses),
            ),
            outside=OutsideHttp(client, settings.services.http_timeout_s),
            nodes=nodes,
            listeners=TcpListeners(source_ip),
            electorate=lambda counters: HttpElectorate(client, nodes, counters),
            # A node that has one refuses what it cannot open; elsewhere such apps are others' business.
            opener=BenchOpener(bench, Counters()) if settings.enterprise.opens_encrypted else None,
        )


def apps_folder(settings: Settings, folder: Path) -> Path:
    """Where volumes are mounted; made when it is not there. Raises ConfigError."""
    place = (
        Path(settings.hosting.apps_dir).expanduser() if settings.hosting.apps_dir else folder / APPS_FOLDER
    )
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder for apps {place} cannot be made: {error.strerror or error}",
            remedy="set hosting.apps_dir to a folder this user may write to",
        ) from error
    return place
