"""Where things are: the configuration file that is used, and the files of the data folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trionode.config.tree import Settings

CONFIG_VARIABLE = "TRIONODE_CONFIG"
CONFIG_NAME = "trionode.toml"
HOME_FOLDER = "~/.trionode"


def config_path(given: str | None, env: Mapping[str, str], here: Path) -> Path | None:
    """The configuration file: the one given, $TRIONODE_CONFIG, ./trionode.toml, the one at home.

    The first two are returned whether they exist or not (a wrong name is an error, not a reason to
    look further); None when there is none at all.
    """
    named = given or env.get(CONFIG_VARIABLE)
    if named:
        return Path(named).expanduser()
    for candidate in (here / CONFIG_NAME, Path(HOME_FOLDER).expanduser() / CONFIG_NAME):
        if candidate.is_file():
            return candidate
    return None


def data_dir(settings: Settings) -> Path:
    """The folder for everything the node writes, with `~` resolved."""
    return Path(settings.node.data_dir).expanduser()


def key_path(settings: Settings) -> Path:
    """The file of the node key, which need not exist (docs/config.md, node.key_file)."""
    if settings.node.key_file:
        return Path(settings.node.key_file).expanduser()
    return data_dir(settings) / "node.key"


def database_path(settings: Settings) -> Path:
    """The file of the SQLite store; only meaningful unless `store.url` names another store."""
    if settings.store.url.startswith("sqlite:"):
        return Path(settings.store.url.removeprefix("sqlite:")).expanduser()
    return data_dir(settings) / "trionode.db"
