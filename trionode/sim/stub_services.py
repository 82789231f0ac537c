"""The external-services stub: public lists, releases and geolocation (docs/spec/testnet.md §4.2).

Port 3000 answers what nodes ask: /helpers/*.json, /repos/{owner}/{repo}[/releases/latest], /json/{ip},
/fluxlocation/{ip}. Port 3001 changes the answers: POST blocked-repos, vetted-repos, whitelisted-repos,
tampering-blocklist, latest-release, geolocation/{ip} (DELETE too), reset; GET state, health.

    python -m trionode.sim.stub_services --host 127.0.255.2
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import trio

from trionode.errors import StartupError, TrionodeError
from trionode.sim.minihttp import StubReply, StubRequest, json_reply, serve_stub

PORT = 3000
CONTROL_PORT = 3001
LISTS = {
    "blocked-repos": "blockedrepositories",
    "vetted-repos": "vettedrepositories",
    "whitelisted-repos": "repositories",
    "tampering-blocklist": "tamperingblockednodes",
}
"""Control route and the helper file it changes."""

RELEASE = {"tag_name": "v8.13.0", "name": "v8.13.0", "prerelease": False, "draft": False}
PLACE = {
    "status": "success",
    "continent": "Europe",
    "continentCode": "EU",
    "country": "Germany",
    "countryCode": "DE",
    "region": "HE",
    "regionName": "Hesse",
    "lat": 50.11,
    "lon": 8.68,
    "org": "Test Network",
    "isp": "Test Network",
    "static": True,
    "hosting": True,
}


class OutsideServices:
    """What the outside says, and the means to change it."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.lists: dict[str, list[Any]] = {name: [] for name in LISTS.values()}
        self.release: dict[str, Any] = dict(RELEASE)
        self.places: dict[str, dict[str, Any]] = {}

    async def answer(self, request: StubRequest) -> StubReply:
        """One request of a node."""
        match request.segments:
            case ("helpers", file) if file.removesuffix(".json") in self.lists:
                return json_reply(self.lists[file.removesuffix(".json")])
            case ("repos", owner, repo):
                return json_reply({"full_name": f"{owner}/{repo}", "default_branch": "master"})
            case ("repos", _, _, "releases", "latest"):
                return json_reply(self.release)
            case ("json" | "fluxlocation" as kind, ip):
                place = {**PLACE, **self.places.get(ip, {}), "query": ip, "ip": ip}
                return json_reply(place if kind == "json" else {"status": "success", "data": place})
        return json_reply({"message": "Not Found"}, 404)

    async def control(self, request: StubRequest) -> StubReply:
        """One control request."""
        match request.method, request.segments:
            case "GET", ("health",):
                return json_reply({"ok": True})
            case "GET", ("state",):
                return json_reply({"lists": self.lists, "release": self.release, "places": self.places})
            case "POST", ("reset",):
                self._reset()
                return json_reply({"ok": True})
            case "DELETE", ("geolocation", ip):
                self.places.pop(ip, None)
                return json_reply({"ok": True})
        try:
            return self._change(request)
        except msgspec.DecodeError as error:
            return json_reply({"error": f"the body does not fit: {error}"}, 400)

    def _change(self, request: StubRequest) -> StubReply:
        match request.method, request.segments:
            case "POST", (name,) if name in LISTS:
                self.lists[LISTS[name]] = msgspec.json.decode(request.body, type=list[Any])
            case "POST", ("latest-release",):
                self.release = {**RELEASE, **msgspec.json.decode(request.body, type=dict[str, Any])}
            case "POST", ("geolocation", ip):
                self.places[ip] = msgspec.json.decode(request.body, type=dict[str, Any])
            case _:
                route = f"{request.method} /{'/'.join(request.segments)}"
                return json_reply({"error": f"no control route {route}"}, 404)
        return json_reply({"ok": True})


async def run_services_stub(
    services: OutsideServices,
    host: str,
    port: int = PORT,
    control_port: int = CONTROL_PORT,
    *,
    task_status: trio.TaskStatus[tuple[int, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; `started` gives the ports really bound. Raises StartupError for a busy port."""
    async with trio.open_nursery() as nursery:
        bound: list[int] = []
        for wanted, handler in ((port, services.answer), (control_port, services.control)):
            try:
                listener = (await trio.open_tcp_listeners(wanted, host=host))[0]
            except OSError as error:
                raise StartupError(
                    f"the services stub cannot listen on {host}:{wanted}: {error.strerror or error}",
                    remedy="end the program that holds the port or choose another address",
                ) from error
            bound.append(listener.socket.getsockname()[1])
            nursery.start_soon(serve_stub, listener, handler)
        task_status.started((bound[0], bound[1]))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m trionode.sim.stub_services", description="A stand-in for outside services."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=PORT, help="port that nodes ask")
    parser.add_argument("--control-port", type=int, default=CONTROL_PORT, help="control port")
    arguments = parser.parse_args(argv)
    exit_code = 0
    try:
        services = OutsideServices()
        trio.run(partial(run_services_stub, services, arguments.host, arguments.port, arguments.control_port))
    except* KeyboardInterrupt:
        pass  # Ctrl-C is the ordinary way to end the stub
    except* TrionodeError as group:
        exit_code = 1
        print(f"services stub: {group.exceptions[0]}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
