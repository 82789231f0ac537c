"""Reads the settings: defaults, then TOML files, then the environment, then flags; the last one wins.

Every value keeps its origin. Everything unknown or out of range is refused with the place where it
stands, the accepted range and, for a mistyped key, the likely one; a key that is known to have no effect
here is passed over and noted. Layers and keys: docs/config.md.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from trionode.config.check import conflicts
from trionode.config.fields import SECTIONS, Field, all_fields, suggest, suggest_section
from trionode.config.section import Section
from trionode.config.tomllines import key_lines
from trionode.config.tree import Settings
from trionode.config.withouteffect import FORMER_SECTIONS, FORMER_SETTINGS
from trionode.errors import ConfigError

ENV_PREFIX = "TRIONODE_"
DEFAULT_ORIGIN = "default"


class Problem(msgspec.Struct, frozen=True):
    """One refused setting: where it stands, its key, what is wrong, what to do."""

    where: str
    key: str
    message: str
    remedy: str

    def one_line(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.message} - {self.remedy}"


class Note(msgspec.Struct, frozen=True):
    """A setting that has no effect: where it stands, its key, why."""

    where: str
    key: str
    why: str

    def one_line(self) -> str:
        return f"{self.where}: {self.key} has no effect - {self.why}"


class RefusedSettings(ConfigError):
    """At least one setting was refused; `problems` has all of them, the message tells the first."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        first = problems[0]
        more = len(problems) - 1
        place = f"{first.where}: " if first.where else ""
        rest = f" (and {more} more, see `trionode config check`)" if more else ""
        super().__init__(f"{place}{first.message}", remedy=f"{first.remedy}{rest}")
        self.problems = problems


class Loaded(msgspec.Struct, frozen=True):
    """The settings and, by full key, where each value came from (e.g. "/etc/t.toml:12").

    `notes`: what was given and has no effect.
    """

    settings: Settings
    origins: Mapping[str, str]
    files: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()


def load(
    paths: Iterable[str | Path] = (),
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Loaded:
    """Merge all layers.

    `overrides` maps full keys to values, or to texts as given to `--set`. Raises RefusedSettings,
    or ConfigError when a file cannot be read or is no TOML.
    """
    layers = _Layers()
    files: list[str] = []
    for path in paths:
        layers.add_file(Path(path))
        files.append(str(path))
    layers.add_environment(env or {})
    layers.add_flags(overrides or {})
    return Loaded(layers.settings(), layers.origins(), tuple(files), layers.notes())


def parse_assignment(text: str) -> tuple[str, str]:
    """Split the `section.key=value` of a `--set` flag. Raises ConfigError."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text!r} is no assignment", remedy="write --set section.key=value")
    return key.strip(), value.strip()


class _Layers:
    """Collects accepted values, their origins, and the problems met on the way."""

    def __init__(self) -> None:
        self._values: dict[str, object] = {}
        self._origins: dict[str, str] = {}
        self._problems: list[Problem] = []
        self._notes: list[Note] = []

    def add_file(self, path: Path) -> None:
        text = _read(path)
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path} is not valid TOML: {error}", remedy="correct that line") from error
        lines = key_lines(text)
        for section, content in tables.items():
            at = f"{path}:{lines.get((section,), 1)}"
            if not isinstance(content, dict):
                self._unknown(at, section)
            elif section not in SECTIONS and section not in FORMER_SECTIONS:
                near = suggest_section(section)
                remedy = f"did you mean [{near}]?" if near else f"sections are {', '.join(SECTIONS)}"
                self._refuse(at, section, f"unknown section [{section}]", remedy)
            else:
                for name, value in content.items():
                    line = lines.get((section, name), lines.get((section,), 1))
                    self._take(f"{section}.{name}", value, f"{path}:{line}")

    def add_environment(self, env: Mapping[str, str]) -> None:
        flat_keys = {key.replace(".", "_"): key for key in all_fields()}
        for variable in sorted(env):
            if not variable.startswith(ENV_PREFIX):
                continue
            rest = variable.removeprefix(ENV_PREFIX).lower()
            section, double, name = rest.partition("__")
            if double:
                self._take_text(f"{section}.{name}", env[variable], variable)
            elif rest in flat_keys:
                right = ENV_PREFIX + flat_keys[rest].replace(".", "__").upper()
                self._refuse(
                    variable, flat_keys[rest], f"{variable} is not the name of a setting", f"write {right}"
                )

    def add_flags(self, overrides: Mapping[str, object]) -> None:
        for key, value in overrides.items():
            if isinstance(value, str):
                self._take_text(key, value, f"--set {key}")
            else:
                self._take(key, value, f"--set {key}")

    def origins(self) -> Mapping[str, str]:
        return {key: self._origins.get(key, DEFAULT_ORIGIN) for key in all_fields()}

    def notes(self) -> tuple[Note, ...]:
        return tuple(self._notes)

    def settings(self) -> Settings:
        """The finished tree. Raises RefusedSettings when anything was refused."""
        if self._problems:
            raise RefusedSettings(tuple(self._problems))
        sections: dict[str, Section] = {}
        for section, struct in SECTIONS.items():
            prefix = f"{section}."
            given = {k.removeprefix(prefix): v for k, v in self._values.items() if k.startswith(prefix)}
            sections[section] = struct(**given)
        settings = Settings(**sections)  # type: ignore[arg-type]  # names and types match by construction
        for conflict in conflicts(settings):
            given_at = [self._origins[key] for key in conflict.keys if key in self._origins]
            self._refuse(given_at[0] if given_at else "", conflict.keys[0], conflict.message, conflict.remedy)
        if self._problems:
            raise RefusedSettings(tuple(self._problems))
        return settings

    def _take_text(self, key: str, text: str, where: str) -> None:
        field = all_fields().get(key)
        if field is None:
            self._unknown(where, key)
        else:
            self._take(key, _parse_text(field, text), where)

    def _take(self, key: str, value: object, where: str) -> None:
        field = all_fields().get(key)
        if field is None:
            self._unknown(where, key)
            return
        try:
            if isinstance(value, float) and not math.isfinite(value):
                raise msgspec.ValidationError("the value is not finite")
            accepted = msgspec.convert(value, type=field.hint)
        except msgspec.ValidationError as error:
            inner = _detail(error)
            self._refuse(
                where,
                key,
                f"{key} must be {field.wanted}, not {_show(value)}{f' ({inner})' if inner else ''}",
                f"correct it, or remove it for the default {_show(field.default)}",
            )
            return
        self._values[key] = accepted
        self._origins[key] = where

    def _unknown(self, where: str, key: str) -> None:
        if key in FORMER_SETTINGS:
            self._notes.append(Note(where, key, FORMER_SETTINGS[key].replace("`", "")))
            return
        near = suggest(key)
        remedy = f"did you mean {near}?" if near else "`trionode config show` lists all settings"
        self._refuse(where, key, f"unknown setting {key}", remedy)

    def _refuse(self, where: str, key: str, message: str, remedy: str) -> None:
        self._problems.append(Problem(where, key, message, remedy))


def _read(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no configuration file {path}",
            remedy="write one with `trionode init`, or leave --config away",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration file {path}: {error.strerror or error}",
            remedy="make it readable for this user",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text", remedy="save it as UTF-8") from error


def _parse_text(field: Field, text: str) -> object:
    """A value from the environment or a flag: text as it is, all else in TOML's spelling.

    Lists may also be given bare, e.g. `2,5,10`. What cannot be parsed is passed on as text, so that
    the type check refuses it with the field's own message.
    """
    if field.is_text:
        return text
    if field.is_list and not text.lstrip().startswith("["):
        parts = [part.strip() for part in text.split(",") if part.strip()]
        if field.accepts.startswith("list of text"):
            return parts
        text = f"[{', '.join(parts)}]"
    try:
        parsed: Any = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text
    return parsed


def _detail(error: msgspec.ValidationError) -> str:
    """What msgspec found inside a list or table, e.g. "expected float >= 0.0 at [1]"; else empty."""
    text = str(error)
    if " - at `$" not in text:
        return ""
    text = text.replace(" - at `$", " at `").replace("`", "")
    return text[:1].lower() + text[1:]


def _show(value: object) -> str:
    """A value as it would be written in TOML, shortened."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = f'"{value}"'
    elif isinstance(value, tuple | list):
        text = "[" + ", ".join(_show(item) for item in value) + "]"
    else:
        text = str(value)
    return text if len(text) <= 120 else text[:117] + "..."
