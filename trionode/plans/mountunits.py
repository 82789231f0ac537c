"""systemd mount units that mount app volumes after a reboot (docs/spec/lifecycle.md §12 "Volume").

One unit a volume, named after its mount point as systemd demands. It waits for the disk that holds the image
file and comes before the container engine.
"""

from __future__ import annotations

import re

import msgspec

from trionode.plans.crontab import VOLUME_SUFFIX

WANTED_BY = "multi-user.target"
_KEPT = re.compile(r"[A-Za-z0-9:_.]")


class MountUnit(msgspec.Struct, frozen=True):
    """The unit of one volume."""

    container: str
    volume_file: str
    mount_point: str

    @property
    def file_name(self) -> str:
        """What systemd calls it."""
        return f"{escaped(self.mount_point)}.mount"

    def text(self) -> str:
        """Its file. Nobody waits for it at boot: a volume that is lost does not keep the machine down."""
        folder = self.volume_file.rpartition("/")[0] or "/"
        return f"""\
# Made by trionode, and removed with the app.
[Unit]
Description=Volume of {self.container}
RequiresMountsFor={_literal(folder)}
Before=docker.service

[Mount]
What={_literal(self.volume_file)}
Where={_literal(self.mount_point)}
Type=ext4
Options=loop,nofail

[Install]
WantedBy={WANTED_BY}
"""


def escaped(path: str) -> str:
    """A path as systemd writes it in unit names."""
    inner = "/".join(part for part in path.split("/") if part)
    if not inner:
        return "-"
    return "".join(_escaped(sign, first=place == 0) for place, sign in enumerate(inner))


def read_unit(text: str) -> MountUnit | None:
    """The unit of a volume; None of other units."""
    pairs = (line.partition("=") for line in text.splitlines())
    values = {key.strip(): value.strip().replace("%%", "%") for key, separator, value in pairs if separator}
    file, where = values.get("What", ""), values.get("Where", "")
    if not file.endswith(VOLUME_SUFFIX) or not where.startswith("/"):
        return None
    return MountUnit(file.rpartition("/")[2].removesuffix(VOLUME_SUFFIX), file, where)


def _escaped(sign: str, *, first: bool) -> str:
    if sign == "/":
        return "-"
    if _KEPT.fullmatch(sign) and not (first and sign == "."):
        return sign
    return "".join(f"\\x{byte:02x}" for byte in sign.encode())


def _literal(value: str) -> str:
    return value.replace("%", "%%")
