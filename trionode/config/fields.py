"""Every setting as data: key, type, range, default, meaning. Read from the tree itself.

Feeds the loader's error messages, `trionode config` and docs/config.md, so none can go stale.
"""

from __future__ import annotations

import difflib
import functools
import re
import typing
from collections.abc import Mapping
from typing import Any

import msgspec

from trionode.config.section import Section
from trionode.config.tree import Settings

SECTIONS: Mapping[str, type[Section]] = {
    name: typing.cast("type[Section]", hint) for name, hint in typing.get_type_hints(Settings).items()
}
"""Section name -> its struct, in the order of the tree."""


class Field(msgspec.Struct, frozen=True):
    """One setting. `hint` is its annotated type, `accepts` the same for people."""

    section: str
    name: str
    hint: Any
    default: Any
    accepts: str
    meaning: str
    original: str
    shared: bool

    @property
    def key(self) -> str:
        return f"{self.section}.{self.name}"

    @property
    def wanted(self) -> str:
        """`accepts` with its article, as in "must be a number > 0"."""
        article = "a " if self.accepts.startswith(("whole", "number", "list", "table")) else ""
        return f"{article}{self.accepts}"

    @property
    def is_text(self) -> bool:
        """True for settings whose environment and flag form is taken literally."""
        return self.accepts.startswith(("text", "one of"))

    @property
    def is_list(self) -> bool:
        return self.accepts.startswith("list")


@functools.cache
def all_fields() -> Mapping[str, Field]:
    """Every setting by its full key `section.name`, in the order of the tree."""
    found: dict[str, Field] = {}
    for section, struct in SECTIONS.items():
        hints = typing.get_type_hints(struct, include_extras=True)
        info = msgspec.inspect.type_info(struct)
        assert isinstance(info, msgspec.inspect.StructType)
        for entry in info.fields:
            kind = entry.type
            extra: Mapping[str, Any] = {}
            meaning = ""
            if isinstance(kind, msgspec.inspect.Metadata):
                extra = kind.extra or {}
                meaning = (kind.extra_json_schema or {}).get("description", "")
            field = Field(
                section=section,
                name=entry.name,
                hint=hints[entry.name],
                default=entry.default,
                accepts=_accepts(kind, hints[entry.name]),
                meaning=meaning,
                original=extra.get("original", ""),
                shared=extra.get("shared", False),
            )
            found[field.key] = field
    return found


def _accepts(kind: msgspec.inspect.Type, hint: Any = None) -> str:
    """The accepted type and range in words; `hint` keeps the written order of choices."""
    inspect = msgspec.inspect
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    if isinstance(kind, inspect.IntType):
        return f"whole number{_bounds(kind)}"
    if isinstance(kind, inspect.FloatType):
        return f"number{_bounds(kind)}"
    if isinstance(kind, inspect.LiteralType):
        written = typing.get_args(typing.get_args(hint)[0]) if hint is not None else kind.values
        return "one of " + ", ".join(str(value) for value in written)
    if isinstance(kind, inspect.StrType):
        if kind.pattern:
            return "text like 1.2.3" if kind.pattern.startswith(r"^\d+\.") else f"text like {kind.pattern}"
        return "text, not empty" if kind.min_length else "text"
    if isinstance(kind, inspect.VarTupleType):
        item = _accepts(kind.item_type)
        for one, many in (("number", "numbers"), ("text", "texts"), ("table of", "tables of")):
            item = item.replace(one, many, 1)
        return f"list of {item}{_lengths(kind)}"
    if isinstance(kind, inspect.StructType):
        return "table of " + ", ".join(entry.name for entry in kind.fields)
    raise TypeError(f"the settings tree has a field of an unforeseen type: {kind!r}")


def _bounds(kind: msgspec.inspect.IntType | msgspec.inspect.FloatType) -> str:
    low = f">= {_plain_number(kind.ge)}" if kind.ge is not None else ""
    if kind.gt is not None:
        low = f"> {_plain_number(kind.gt)}"
    high = f"<= {_plain_number(kind.le)}" if kind.le is not None else ""
    if kind.lt is not None:
        high = f"< {_plain_number(kind.lt)}"
    text = " and ".join(part for part in (low, high) if part)
    return f" {text}" if text else ""


def _plain_number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _lengths(kind: msgspec.inspect.VarTupleType) -> str:
    low = f"at least {kind.min_length}" if kind.min_length else ""
    high = f"at most {kind.max_length}" if kind.max_length is not None else ""
    text = " and ".join(part for part in (low, high) if part)
    return f" ({text})" if text else ""


def suggest(key: str) -> str | None:
    """The setting a person most likely meant by the unknown `key`."""
    fields = all_fields()
    section, _, name = key.rpartition(".")
    same_name = [field.key for field in fields.values() if field.name == name]
    if same_name:
        return same_name[0]
    wanted = _plain(key)
    for field in fields.values():
        spellings = {_plain(part) for part in re.split(r"[ ,]+", field.original)}
        spellings |= {_plain(part.rpartition(".")[2]) for part in re.split(r"[ ,]+", field.original)}
        if (wanted in spellings or _plain(name) in spellings) and len(_plain(name)) > 3:
            return field.key
    begun = [known for known in fields if name and known.startswith(key)]
    if begun:
        return begun[0]
    if section in SECTIONS:
        near = difflib.get_close_matches(name, [f.name for f in fields.values() if f.section == section], n=1)
        if near:
            return f"{section}.{near[0]}"
    near = difflib.get_close_matches(key, list(fields), n=1, cutoff=0.7)
    return near[0] if near else None


def suggest_section(name: str) -> str | None:
    """The section a person most likely meant by the unknown section `name`."""
    near = difflib.get_close_matches(name, list(SECTIONS), n=1)
    return near[0] if near else None


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
