"""A network of real node processes with everything around them under control (docs/spec/testnet.md).

`Network` starts and stops the processes, `Network.connected()` gives the handles of one test. See README.md.
"""

from __future__ import annotations

from network.env import Env
from network.network import Connected, Network
from network.node import Node

__all__ = ["Connected", "Env", "Network", "Node"]
