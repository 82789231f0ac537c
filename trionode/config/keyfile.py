"""The node key as text: where it is looked for, and how it is written so that nobody else reads it.

Order (docs/config.md, node.key_file): the file `node.key_file` names; else DATA_DIR/node.key if it
is there; else `zelnodeprivkey` of the daemon's conf (docs/spec/daemon-rpc.md §1). Whether the text
is a valid key is for `trionode.wire.keys` to say.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec

from trionode.config.paths import key_path
from trionode.config.tree import Settings
from trionode.errors import StartupError


class FoundKey(msgspec.Struct, frozen=True):
    """A key text and where it stood. `exposed` is True when other users may read the file."""

    wif: str
    where: str
    exposed: bool = False

    def __repr__(self) -> str:
        return f"FoundKey(where={self.where!r})"


def find_key(settings: Settings, daemon_wif: str, daemon_conf: str = "") -> FoundKey:
    """The node key's text. `daemon_wif` is the conf's zelnodeprivkey, empty when it has none.

    Raises StartupError when there is none, or when its file cannot be read or is empty.
    """
    path = key_path(settings)
    if settings.node.key_file or path.exists():
        return _read(path)
    if daemon_wif:
        return FoundKey(daemon_wif, f"zelnodeprivkey in {daemon_conf or 'the daemon configuration'}")
    other = f"zelnodeprivkey in {daemon_conf or 'a daemon configuration'}"
    raise StartupError(
        f"there is no node key: neither {path} nor {other}",
        remedy="make or import one with `trionode init`, or set node.key_file or chain.daemon_conf",
    )


def _read(path: Path) -> FoundKey:
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip()
        mode = path.stat().st_mode
    except OSError as error:
        raise StartupError(
            f"cannot read the node key {path}: {error.strerror or error}",
            remedy="correct node.key_file, or make a key with `trionode init`",
        ) from error
    if not text:
        raise StartupError(f"the node key file {path} is empty", remedy="put the key (WIF) into it")
    return FoundKey(text, str(path), exposed=bool(mode & (stat.S_IRGRP | stat.S_IROTH)))


def write_private(path: Path, text: str) -> None:
    """Create `path` with `text`, readable and writable by its owner only, complete or not at all.

    Raises FileExistsError when it is there already, OSError when it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, fails when somebody made the file meanwhile.
        os.link(draft, path)
    finally:
        draft.unlink()
