"""Writes docs/config.md from the settings tree. `--check` only says whether it is up to date."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from trionode.cli.config_cmd import toml_value
from trionode.config.fields import SECTIONS, Field, all_fields
from trionode.config.withouteffect import TABLE, WithoutEffect

TARGET = Path(__file__).resolve().parent.parent / "docs" / "config.md"
FRAME = Path(__file__).resolve().parent / "config_docs.md"
"""What stands before and after the tables."""

MARK = "<!-- sections -->"
IDLE_MARK = "<!-- without effect -->"


def main(arguments: list[str]) -> int:
    """Write or check the file; 0 when it is (now) right."""
    text = render()
    if "--check" in arguments:
        if TARGET.read_text(encoding="utf-8") == text:
            return 0
        print(f"{TARGET.name} is out of date: run python scripts/gen_config_docs.py", file=sys.stderr)
        return 1
    TARGET.write_text(text, encoding="utf-8")
    print(f"wrote {TARGET.name}: {len(all_fields())} settings")
    return 0


def render() -> str:
    """The whole page."""
    before, _, after = FRAME.read_text(encoding="utf-8").partition(MARK)
    parts = [before.strip() + "\n"]
    for section, struct in SECTIONS.items():
        title = " ".join((struct.__doc__ or "").split())
        parts.append("\n".join(_section(section, title)))
    idle = ["| original | setting once | why |", "|---|---|---|", *map(_idle_row, TABLE)]
    parts.append(after.replace(IDLE_MARK, "\n".join(idle)).strip() + "\n")
    return "\n".join(parts)


def _idle_row(row: WithoutEffect) -> str:
    originals = ", ".join(row.originals) or "-"
    settings = ", ".join(f"`{key}`" for key in row.settings) or "-"
    return f"| {originals} | {settings} | {row.why} |"


def _section(section: str, title: str) -> Iterator[str]:
    yield f"## [{section}]"
    yield ""
    yield title
    yield ""
    yield "| key | default | accepted | original | meaning |"
    yield "|---|---|---|---|---|"
    rows = [field for field in all_fields().values() if field.section == section]
    for field in rows:
        cells = (field.name, _default(field), field.accepts, field.original or "new", _meaning(field))
        yield f"| {' | '.join(cells)} |"
    yield ""
    for field in rows:
        if _is_long(field):
            yield f"Default of `{field.key}`:"
            yield "```toml"
            value = msgspec.to_builtins(field.default)
            if isinstance(value, dict):
                yield f"{field.name} = {toml_value(value)}"
            else:
                yield f"{field.name} = ["
                yield from (f"  {toml_value(item)}," for item in value)
                yield "]"
            yield "```"
            yield ""


def _is_long(field: Field) -> bool:
    return "table of" in field.accepts or "tables of" in field.accepts


def _default(field: Field) -> str:
    if _is_long(field):
        return "below"
    value = toml_value(msgspec.to_builtins(field.default))
    return "empty" if value in ('""', "[]") else f"`{value}`"


def _meaning(field: Field) -> str:
    return f"**N** {field.meaning}" if field.shared else field.meaning


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
