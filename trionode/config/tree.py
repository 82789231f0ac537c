"""The settings tree: one frozen struct per subsystem, units in the names.

A service receives its own section, never the whole tree. Facts: docs/spec/config.md; every key with
its default, range and the original's key: docs/config.md (generated from here).
"""

from __future__ import annotations

from trionode.config.apps import (
    HostingSettings,
    ImageSettings,
    InstallerSettings,
    MonitorSettings,
    PortTestSettings,
    SpawnerSettings,
)
from trionode.config.chain import (
    ChainSettings,
    ExplorerSettings,
    HashSyncSettings,
    RegistrySettings,
    VersionHeight,
)
from trionode.config.core import (
    ApiSettings,
    BootSettings,
    LogSettings,
    NetworkSettings,
    NodeSettings,
    StoreSettings,
    SupervisorSettings,
    SystemSettings,
)
from trionode.config.economy import EconomySettings, Price, SupportAddress, UsdPrice
from trionode.config.gossip import AppStateSettings, GossipSettings, PeerSettings, StateSyncSettings
from trionode.config.host import (
    EnterpriseSettings,
    ResourceSettings,
    ServicesSettings,
)
from trionode.config.observer import ObserverSettings
from trionode.config.section import Section

__all__ = [
    "ApiSettings",
    "AppStateSettings",
    "BootSettings",
    "ChainSettings",
    "EconomySettings",
    "EnterpriseSettings",
    "ExplorerSettings",
    "GossipSettings",
    "HashSyncSettings",
    "HostingSettings",
    "ImageSettings",
    "InstallerSettings",
    "LogSettings",
    "MonitorSettings",
    "NetworkSettings",
    "NodeSettings",
    "ObserverSettings",
    "PeerSettings",
    "PortTestSettings",
    "Price",
    "RegistrySettings",
    "ResourceSettings",
    "Section",
    "ServicesSettings",
    "Settings",
    "SpawnerSettings",
    "StateSyncSettings",
    "StoreSettings",
    "SupervisorSettings",
    "SupportAddress",
    "SystemSettings",
    "UsdPrice",
    "VersionHeight",
]


class Settings(Section, frozen=True, kw_only=True):
    """The whole tree."""

    node: NodeSettings = NodeSettings()
    network: NetworkSettings = NetworkSettings()
    peers: PeerSettings = PeerSettings()
    gossip: GossipSettings = GossipSettings()
    appstate: AppStateSettings = AppStateSettings()
    state_sync: StateSyncSettings = StateSyncSettings()
    chain: ChainSettings = ChainSettings()
    explorer: ExplorerSettings = ExplorerSettings()
    hash_sync: HashSyncSettings = HashSyncSettings()
    registry: RegistrySettings = RegistrySettings()
    economy: EconomySettings = EconomySettings()
    store: StoreSettings = StoreSettings()
    api: ApiSettings = ApiSettings()
    hosting: HostingSettings = HostingSettings()
    spawner: SpawnerSettings = SpawnerSettings()
    installer: InstallerSettings = InstallerSettings()
    images: ImageSettings = ImageSettings()
    monitors: MonitorSettings = MonitorSettings()
    port_test: PortTestSettings = PortTestSettings()
    resources: ResourceSettings = ResourceSettings()
    enterprise: EnterpriseSettings = EnterpriseSettings()
    services: ServicesSettings = ServicesSettings()
    system: SystemSettings = SystemSettings()
    boot: BootSettings = BootSettings()
    observer: ObserverSettings = ObserverSettings()
    supervisor: SupervisorSettings = SupervisorSettings()
    log: LogSettings = LogSettings()
