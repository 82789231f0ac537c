"""Every setting is read by the code it is for: one that nothing reads would promise what nobody does."""

from __future__ import annotations

from pathlib import Path

import pytest
from settingreads import unread

PACKAGE = Path(__file__).resolve().parents[2] / "trionode"
NO_READERS = ("config", "sim", "devnet")
"""The settings themselves, and what only sets them for networks of its own."""

PATHS = PACKAGE / "config" / "paths.py"


def readers() -> list[Path]:
    """The code that settings are for."""
    files = sorted(PACKAGE.rglob("*.py"))
    return [PATHS, *(file for file in files if file.relative_to(PACKAGE).parts[0] not in NO_READERS)]


def test_every_setting_is_read() -> None:
    assert unread(readers()) == [], "wire them, or move them to trionode/config/withouteffect.py"


@pytest.mark.parametrize(
    ("code", "read"),
    [
        ("def f(s: Settings): return s.boot.delay_factor", True),
        ("def f(s: BootSettings | None): return (s or BootSettings()).delay_factor", True),
        ("def f(s: SpawnerSettings): return s.delay_factor", False),
        ("def f(link: Link): return link.delay_factor", False),
        ("def f(s: BootSettings): s.delay_factor = 1", False),
        ("def f(s: BootSettings):\n  s = link()\n  return s.delay_factor", False),
        ("def f(s: BootSettings): return getattr(s, NAMES[0])\nNAMES = ['delay_factor']", True),
        ("def f(s: SpawnerSettings): return getattr(s, NAMES[0])\nNAMES = ['delay_factor']", False),
        ("class A:\n  def run(self): return self._s.delay_factor\n"
         "  def __init__(self, s: Settings): self._s, self._t = s.boot, 1", True),
        ("class A:\n  def run(self): return self._s.delay_factor\n"
         "  def __init__(self, s: Settings): self._s = s.spawner", False),
        ("class Parts:\n  settings: Settings\ndef f(p): return p.parts.settings.boot.delay_factor", True),
        ("class A:\n  def times(self) -> BootSettings: ...\ndef f(a): return a.times().delay_factor", True),
    ],
)  # fmt: skip
def test_who_reads_it(tmp_path: Path, code: str, read: bool) -> None:
    file = tmp_path / "x.py"
    file.write_text(code, encoding="utf-8")
    assert ("boot.delay_factor" not in unread([file])) is read
