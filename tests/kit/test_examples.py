"""The examples of a test are the same whatever was imported before it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
sys.path[:0] = sys.argv[1:]
import hypothesis
from hypothesis import strategies as st
from examples import draw_nothing_from_imports

hypothesis.settings.register_profile("same", derandomize=True, deadline=None, max_examples=300)
hypothesis.settings.load_profile("same")
draw_nothing_from_imports()
drawn = []

@hypothesis.given(st.integers(), st.text())
def draw(number, text):
    drawn.append((number, text))

draw()
first = list(drawn)
import neighbour
drawn.clear()
draw()
assert drawn == first
"""
NEIGHBOUR = "\n".join(f"A{number} = {number}, 'word {number}'" for number in range(31_337, 31_437))


@pytest.mark.process
def test_an_import_changes_no_example(tmp_path_factory: pytest.TempPathFactory) -> None:
    # In a folder without "test" in its name, whose modules Hypothesis would leave alone.
    folder = tmp_path_factory.mktemp("modules")
    (folder / "neighbour.py").write_text(NEIGHBOUR)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), str(Path(__file__).parent)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
