"""What the global options of one `trionode` call said; handed to every command as click's object.

Stays free of heavy imports: `trionode status` must answer within 250 ms.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trionode.config.load import Loaded


@dataclass
class Invocation:
    """Global options, and the settings they lead to. Commands get it by `@click.pass_obj`."""

    config: str | None = None
    assignments: tuple[str, ...] = ()
    verbose: int = 0
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def config_path(self) -> Path | None:
        """The configuration file in use: --config, $TRIONODE_CONFIG, ./trionode.toml, the one at home."""
        from trionode.config.paths import config_path

        return config_path(self.config, self.env, Path.cwd())

    def load(self, extra: Mapping[str, object] | None = None) -> Loaded:
        """The settings of this call; `extra` are flags of the command. Raises ConfigError."""
        from trionode.config.load import load, parse_assignment

        overrides: dict[str, object] = dict(parse_assignment(text) for text in self.assignments)
        if self.verbose:
            overrides.setdefault("log.level", "debug")
        overrides.update(extra or {})
        path = self.config_path()
        return load([path] if path else [], self.env, overrides)
