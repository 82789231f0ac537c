"""Telling a service manager how the node is doing: the notify protocol of systemd (`man sd_notify`).

The node says READY=1 when all services run, STOPPING=1 when it stops, one line of status, and WATCHDOG=1
from its event loop, so that a loop that no longer turns is found and the node started anew. Without
NOTIFY_SOCKET in the environment nothing is sent. Nothing here waits or fails: nobody may be listening, or
not quickly enough; what could not be sent goes with the next lines.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

import trio

from trionode.runtime.logs import get_logger

STATUS_INTERVAL_S = 10.0
"""How often the status line is looked at when there is no watchdog that sets the pace."""

log = get_logger("systemd")


class ServiceManager:
    """Service "service-manager": keeps the watchdog content. `status` gives the line to show.

    `address`: of the datagram socket, a leading `@` stands for the abstract namespace; None: nobody listens.
    `watchdog_s`: the time after which a silent service counts as hung, None without a watchdog.
    """

    name = "service-manager"

    def __init__(
        self,
        address: str | None,
        watchdog_s: float | None = None,
        *,
        status: Callable[[], str] = lambda: "",
    ) -> None:
        self._address = address
        self._watchdog_s = watchdog_s
        self._status = status
        self._told = ""
        self._unsent: dict[str, str] = {}
        """By their names: of each only the newest value is worth telling."""
        self._complained = False

    @classmethod
    def from_environment(
        cls, env: Mapping[str, str], pid: int, *, status: Callable[[], str] = lambda: ""
    ) -> ServiceManager:
        """As NOTIFY_SOCKET and WATCHDOG_USEC say; a watchdog meant for another process is not ours."""
        micros = env.get("WATCHDOG_USEC", "")
        ours = env.get("WATCHDOG_PID", str(pid)) == str(pid)
        watched = ours and micros.isascii() and micros.isdecimal() and int(micros) > 0
        return cls(
            env.get("NOTIFY_SOCKET") or None,
            int(micros) / 1_000_000 if watched else None,
            status=status,
        )

    @property
    def interval_s(self) -> float:
        """Half of what the watchdog allows, as systemd advises."""
        return STATUS_INTERVAL_S if self._watchdog_s is None else self._watchdog_s / 2

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell that the loop turns, and how things are, until cancelled."""
        task_status.started()
        while True:
            lines = [] if self._watchdog_s is None else ["WATCHDOG=1"]
            self.tell(*lines, *self._news())
            await trio.sleep(self.interval_s)

    def ready(self) -> None:
        """All services run."""
        self.tell("READY=1", *self._news())

    def stopping(self, reason: str) -> None:
        """The orderly stop has begun."""
        self.tell("STOPPING=1", _status_line(f"stopping: {reason}"))

    def more_time(self, seconds: float) -> None:
        """The stop may take this long from now; without this the manager's own limit holds."""
        self.tell(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")

    def tell(self, *lines: str) -> None:
        """Send lines in one datagram, and those before them that could not be sent."""
        if self._address is None:
            return
        self._unsent |= {line.partition("=")[0]: line for line in lines}
        if not self._unsent:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(self._unsent.values()).encode(), address)
            self._unsent.clear()
        except OSError as error:
            if not self._complained:
                self._complained = True
                log.warning("the service manager cannot be told", address=self._address, problem=str(error))

    def _news(self) -> list[str]:
        text = self._status()
        if not text or text == self._told:
            return []
        self._told = text
        return [_status_line(text)]


def _status_line(text: str) -> str:
    return "STATUS=" + " ".join(text.split())
