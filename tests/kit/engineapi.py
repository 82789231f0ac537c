"""A plain client of the engine API for tests: it looks at the engine without the adapter under test.

Blocking on purpose, so that it serves session fixtures too; in an async test call it through
`trio.to_thread.run_sync` when the answer may take longer than a moment (pull, push, stop).
"""

from __future__ import annotations

import base64
import http.client
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

API = "/v1.41"
ANSWER_WITHIN_S = 120.0
PING_WITHIN_S = 30.0
STARTS_WITHIN_S = 60.0


class EngineAnswerError(Exception):
    """The engine answered a call with an error."""

    def __init__(self, call: str, status: int, text: str) -> None:
        super().__init__(f"{call}: {status} {text}")
        self.status = status
        self.text = text


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class EngineApi(msgspec.Struct, frozen=True):
    """The calls that tests need of the engine behind one unix socket."""

    socket_path: Path

    @classmethod
    def at(cls, url: str) -> EngineApi:
        """The engine at `unix:///path`."""
        return cls(Path(url.removeprefix("unix://")))

    def raw(
        self,
        method: str,
        path: str,
        query: dict[str, str | list[str]] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = ANSWER_WITHIN_S,
    ) -> tuple[int, bytes]:
        """Status and body of one call; `body` is sent as it is (bytes) or as JSON."""
        target = f"{API}{path}" + (f"?{urlencode(query, doseq=True)}" if query else "")
        sent = dict(headers or {})
        content: bytes | None = None
        if isinstance(body, bytes):
            content = body
            sent.setdefault("Content-Type", "application/x-tar")
        elif body is not None:
            content = msgspec.json.encode(body)
            sent["Content-Type"] = "application/json"
        connection = _Connection(self.socket_path, timeout_s)
        try:
            connection.request(method, target, body=content, headers=sent)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def call(self, method: str, path: str, query: dict[str, Any] | None = None, **more: Any) -> Any:
        """The decoded answer; raises EngineAnswerError for a status of 400 and more."""
        status, content = self.raw(method, path, query, **more)
        if status >= 400:
            raise EngineAnswerError(f"{method} {path}", status, content.decode(errors="replace").strip())
        try:
            return msgspec.json.decode(content) if content.strip() else None
        except msgspec.DecodeError:
            return content.decode(errors="replace")

    def stream(self, method: str, path: str, query: dict[str, Any] | None = None, **more: Any) -> list[Any]:
        """All objects of an answer that is a sequence of JSON lines; raises at the first that is an error."""
        status, content = self.raw(method, path, query, **more)
        lines = [msgspec.json.decode(line) for line in content.splitlines() if line.strip()]
        if status >= 400:
            raise EngineAnswerError(f"{method} {path}", status, str(lines))
        for line in lines:
            if "error" in line:
                raise EngineAnswerError(f"{method} {path}", status, str(line["error"]))
        return lines

    def ping(self) -> bool:
        """Whether somebody answers."""
        try:
            return self.raw("GET", "/_ping", timeout_s=PING_WITHIN_S)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    # --- what is there

    def containers(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.call("GET", "/containers/json", {"all": "1"})
        return rows

    def container_names(self) -> set[str]:
        return {name.removeprefix("/") for row in self.containers() for name in row["Names"]}

    def inspect(self, container: str) -> dict[str, Any]:
        row: dict[str, Any] = self.call("GET", f"/containers/{quote(container)}/json")
        return row

    def heeds_sigterm(self, container: str) -> None:
        """Returns when its first process has got so far that it does something about SIGTERM.

        Until then the kernel drops the signal: it is process 1 of its namespace.
        """
        status = Path(f"/proc/{self.inspect(container)['State']['Pid']}/status")
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not _catches(status.read_text(), signal.SIGTERM):
            if time.monotonic() > deadline:
                raise EngineAnswerError(f"wait for {container}", 0, "its first process never heeds SIGTERM")
            time.sleep(0.005)

    def networks(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.call("GET", "/networks")
        return rows

    def network_names(self) -> set[str]:
        return {row["Name"] for row in self.networks()}

    def volumes(self) -> list[dict[str, Any]]:
        return self.call("GET", "/volumes").get("Volumes") or []

    def image_tags(self) -> set[str]:
        return {tag for row in self.call("GET", "/images/json") for tag in row.get("RepoTags") or ()}

    # --- what others do to containers, behind the node's back

    def run(self, name: str, image: str, command: list[str] | None = None, **more: Any) -> str:
        """Creates and starts a container; `more` are top-level fields of the create call. Returns its id."""
        body = {"Image": image, **({"Cmd": command} if command else {}), **more}
        made: str = self.call("POST", "/containers/create", {"name": name}, body=body)["Id"]
        self.call("POST", f"/containers/{made}/start")
        return made

    def start(self, container: str) -> None:
        self.call("POST", f"/containers/{quote(container)}/start")

    def stop(self, container: str, within_s: int = 2) -> None:
        self.call("POST", f"/containers/{quote(container)}/stop", {"t": str(within_s)})

    def kill(self, container: str, signal: str = "SIGKILL") -> None:
        self.call("POST", f"/containers/{quote(container)}/kill", {"signal": signal})

    def remove(self, container: str) -> None:
        """Removes it with its anonymous volumes, running or not; fine when it is not there."""
        self._gone("DELETE", f"/containers/{quote(container)}", {"force": "1", "v": "1"})

    def remove_network(self, network: str) -> None:
        self._gone("DELETE", f"/networks/{quote(network)}", None)

    def remove_volume(self, volume: str) -> None:
        self._gone("DELETE", f"/volumes/{quote(volume)}", {"force": "1"})

    def remove_image(self, tag: str) -> None:
        self._gone("DELETE", f"/images/{quote(tag, safe='/:@')}", {"force": "1"})

    def exec(self, container: str, command: list[str]) -> tuple[int, str]:
        """Runs a command inside and waits for it: exit code and what it wrote."""
        body = {"Cmd": command, "AttachStdout": True, "AttachStderr": True, "Tty": True}
        made = self.call("POST", f"/containers/{quote(container)}/exec", body=body)["Id"]
        status, output = self.raw("POST", f"/exec/{made}/start", body={"Detach": False, "Tty": True})
        if status >= 400:
            raise EngineAnswerError("exec", status, output.decode(errors="replace"))
        code: int = self.call("GET", f"/exec/{made}/json")["ExitCode"]
        return code, output.decode(errors="replace").replace("\r\n", "\n")

    def logs(self, container: str) -> str:
        """Everything it wrote, both streams, without the framing."""
        _, content = self.raw("GET", f"/containers/{quote(container)}/logs", {"stdout": "1", "stderr": "1"})
        return b"".join(_frames(content)).decode(errors="replace")

    # --- images

    def pull(self, tag: str, credentials: tuple[str, str] | None = None) -> list[Any]:
        """Pulls `repository:tag`; returns the progress objects."""
        repository, _, version = tag.rpartition(":")
        query = {"fromImage": repository, "tag": version}
        return self.stream("POST", "/images/create", query, headers=_auth(tag, credentials))

    def push(self, tag: str, credentials: tuple[str, str] | None = None) -> str:
        """Pushes `host:port/name:tag`; returns the digest of the manifest."""
        repository, _, version = tag.rpartition(":")
        path = f"/images/{quote(repository, safe='/:')}/push"
        lines = self.stream("POST", path, {"tag": version}, headers=_auth(tag, credentials))
        digests = [line["aux"]["Digest"] for line in lines if "Digest" in line.get("aux", {})]
        digest: str = digests[-1]
        return digest

    def tag(self, image: str, tag: str) -> None:
        repository, _, version = tag.rpartition(":")
        path = f"/images/{quote(image, safe='/:')}/tag"
        self.call("POST", path, {"repo": repository, "tag": version})

    def remove_everything(self) -> None:
        """All containers, networks of users and volumes; images stay."""
        for row in self.containers():
            self.remove(row["Id"])
        for row in self.networks():
            if row["Name"] not in {"bridge", "host", "none"}:
                self.remove_network(row["Id"])
        for row in self.volumes():
            self.remove_volume(row["Name"])

    def _gone(self, method: str, path: str, query: dict[str, str] | None) -> None:
        try:
            self.call(method, path, query)
        except EngineAnswerError as error:
            if error.status != 404:
                raise


def _catches(status: str, number: int) -> bool:
    """Whether /proc/PID/status names a handler for the signal."""
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def _auth(tag: str, credentials: tuple[str, str] | None) -> dict[str, str]:
    # The engine wants the header on a push even when there is nothing to say.
    said: dict[str, str] = {}
    if credentials is not None:
        name, password = credentials
        said = {"username": name, "password": password, "serveraddress": tag.split("/", 1)[0]}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(msgspec.json.encode(said)).decode()}


def _frames(content: bytes) -> Iterator[bytes]:
    at = 0
    while at + 8 <= len(content) and content[at] in (0, 1, 2) and content[at + 1 : at + 4] == b"\0\0\0":
        length = int.from_bytes(content[at + 4 : at + 8])
        yield content[at + 8 : at + 8 + length]
        at += 8 + length
    yield content[at:]
