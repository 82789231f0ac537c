"""The same network for Docker Compose: compose files, and the folder with every node's files.

Addresses are those of docs/spec/testnet.md §1: one network 198.18.0.0/16, node N at 198.18.N.0. The compose
files are written by this module and kept in `compose/`; a test holds them equal.

    PYTHONPATH=test-infra python -m network.compose_files prepare compose/full/network --nodes 16
    PYTHONPATH=test-infra python -m network.compose_files write
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from network.boot import prepare as prepare_boot
from network.env import SETTINGS, TIERS, admin_of
from network.rootfs import PYTHON
from trionode.devnet.layout import API_PORT, Layout, NodePlace, write

FOLDER = Path(__file__).parent / "compose"
SIZES = {"single": 1, "full": 16}
IMAGE = "trionode-network:local"
DAEMON_IP = "198.18.0.3"
SERVICES_IP = "198.18.0.6"
CONTROL_PORT = 18232
FIRST_HOST_PORT = 16500
"""The API of node N is at this port plus N of the host."""

HEAD = """\
# Written by `python -m network.compose_files write`; do not edit. How to start it: ../../README.md
name: trionode-{name}

x-all: &all
  image: {image}
  init: true
  volumes:
    - ${{NETWORK_DIR:-./network}}:/network

x-node: &node
  <<: *all
  # A node takes up to 15 s to say goodbye and to stop its containers.
  stop_grace_period: 15s
  depends_on:
    daemon-stub:
      condition: service_healthy

services:
  daemon-stub:
    <<: *all
    command:
      - trionode.sim.stub_server
      - --host={daemon_ip}
      - --nodes=/network/nodes.json
      - --ticker
    healthcheck:
      test: ["CMD", "{python}", "-c", "import urllib.request as r; r.urlopen('http://{daemon_ip}:{control}/health')"]
      interval: 2s
      timeout: 5s
      retries: 15
    networks:
      test:
        ipv4_address: {daemon_ip}

  services-stub:
    <<: *all
    command:
      - trionode.sim.stub_services
      - --host={services_ip}
    networks:
      test:
        ipv4_address: {services_ip}
"""

NODE = """
  node{number}:
    <<: *node
    command: [trionode, --config, /network/node{number}/trionode.toml, run]
    ports:
      - "127.0.0.1:{host_port}:{api}"
    healthcheck:
      test: ["CMD", "{python}", "-c", "import urllib.request as r; r.urlopen('http://{ip}:{api}/flux/version')"]
      interval: 5s
      timeout: 5s
      retries: 20
    networks:
      test:
        ipv4_address: {ip}
"""

FOOT = """
networks:
  test:
    driver: bridge
    ipam:
      config:
        - subnet: 198.18.0.0/16
          gateway: 198.18.0.1
"""


def node_ip(number: int) -> str:
    return f"198.18.{number}.0"


def compose_text(name: str, nodes: int) -> str:
    """The compose file of a network."""
    parts = [
        HEAD.format(
            name=name,
            image=IMAGE,
            daemon_ip=DAEMON_IP,
            services_ip=SERVICES_IP,
            control=CONTROL_PORT,
            python=PYTHON,
        )
    ]
    parts += [
        NODE.format(
            number=number,
            host_port=FIRST_HOST_PORT + number,
            api=API_PORT,
            ip=node_ip(number),
            python=PYTHON,
        )
        for number in range(1, nodes + 1)
    ]
    return "".join([*parts, FOOT])


def prepare(folder: Path, nodes: int) -> Layout:
    """Keys, settings, app lists, boot ids and the node list, with paths as the containers see them."""
    layout = Layout(
        folder=folder,
        stub_ip=DAEMON_IP,
        nodes=tuple(
            NodePlace(number=number, ip=node_ip(number), folder=folder / f"node{number}", apps=())
            for number in range(1, nodes + 1)
        ),
    )
    services = f"http://{SERVICES_IP}:3000"
    inside = {place.number: f"/network/node{place.number}" for place in layout.nodes}
    write(
        layout,
        random.Random(1),
        {
            **SETTINGS,
            "peers.min_outbound": max(1, min(4, (nodes - 1) // 2)),
            "peers.min_inbound": max(1, min(2, (nodes - 1) // 4)),
            **dict.fromkeys(
                (
                    "services.lists_url",
                    "services.geolocation_url",
                    "services.stats_url",
                ),
                services,
            ),
        },
        node_overrides={
            number: {
                "node.data_dir": f"{place}/data",
                "node.key_file": f"{place}/node.key",
                "node.apps_file": f"{place}/apps.toml",
                "node.operator_id": admin_of(number).address,
                "system.boot_id_file": f"{place}/boot-id",
                "system.shutdown_marker_files": [f"{place}/going-down"],
                "system.shutdown_commands": False,
            }
            for number, place in inside.items()
        },
        tiers=TIERS,
    )
    for place in layout.nodes:
        prepare_boot(place, None)
    return layout


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m network.compose_files", description=main.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("write", help="write the compose files of this folder anew")
    preparing = verbs.add_parser("prepare", help="make the folder that the containers share")
    preparing.add_argument("folder", type=Path)
    preparing.add_argument("--nodes", type=int, default=16)
    arguments = parser.parse_args()
    if arguments.verb == "prepare":
        prepare(arguments.folder, arguments.nodes)
        print(f"{arguments.nodes} nodes in {arguments.folder}")
    else:
        for name, nodes in SIZES.items():
            path = FOLDER / name / "compose.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(compose_text(name, nodes), "utf-8")
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
