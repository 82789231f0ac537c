"""Logs: JSON or human lines, nothing twice, levels, rotation, hostile texts."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

import pytest

from trionode.config.tree import LogSettings
from trionode.errors import StartupError
from trionode.runtime.logs import get_logger, log_context, set_up_logs, tear_down_logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    tear_down_logs()


def uncoloured(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_where_nobody_looks() -> None:
    out = io.StringIO()
    set_up_logs(LogSettings(), stream=out)
    get_logger("peers.dialer").info("peer added", peer="1.2.3.4:16127", total=3)
    (line,) = lines(out)
    assert list(line) == ["timestamp", "level", "logger", "message", "peer", "total"]
    assert line.pop("timestamp")
    assert line == {
        "message": "peer added",
        "peer": "1.2.3.4:16127",
        "total": 3,
        "level": "info",
        "logger": "peers.dialer",
    }


def test_one_coloured_line_on_a_terminal() -> None:
    out = Terminal()
    set_up_logs(LogSettings(), stream=out)
    get_logger("peers").warning("peer lost", peer="1.2.3.4", code=1006)
    text = out.getvalue()
    assert text.count("\n") == 1
    assert "\x1b[" in text
    for part in ("peer lost", "peers", "1.2.3.4", "1006", "warning"):
        assert part in text
    assert re.match(r"\d\d:\d\d:\d\d ", uncoloured(text)), "local time of day comes first"


def test_format_can_be_chosen() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    set_up_logs(LogSettings(format="json"), stream=terminal)
    get_logger("a").info("x")
    assert lines(terminal)[0]["message"] == "x"
    set_up_logs(LogSettings(format="human"), stream=pipe)
    get_logger("a").info("x")
    assert "\x1b" not in pipe.getvalue()
    assert "x" in pipe.getvalue()


def test_second_set_up_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    set_up_logs(LogSettings(), stream=first)
    logger = get_logger("a")
    logger.info("one")
    set_up_logs(LogSettings(), stream=second)
    logger.info("two")
    get_logger("a").info("three")
    assert [line["message"] for line in lines(first)] == ["one"]
    assert [line["message"] for line in lines(second)] == ["two", "three"]


def test_levels() -> None:
    out = io.StringIO()
    set_up_logs(LogSettings(level="warning"), stream=out)
    logger = get_logger("a")
    logger.debug("no")
    logger.info("no")
    logger.warning("yes")
    logger.error("yes")
    assert [line["level"] for line in lines(out)] == ["warning", "error"]


def test_libraries_take_the_same_way_but_only_from_warnings_on() -> None:
    out = io.StringIO()
    set_up_logs(LogSettings(level="debug"), stream=out)
    logging.getLogger("hypercorn.error").info("Running on %s", "somewhere")
    logging.getLogger("hypercorn.error").warning("odd %s", "thing")
    (line,) = lines(out)
    assert (line["message"], line["logger"], line["level"]) == ("odd thing", "hypercorn.error", "warning")


def test_python_warnings_are_logged() -> None:
    out = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        set_up_logs(LogSettings(), stream=out)
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
        tear_down_logs()
    (line,) = lines(out)
    assert "old thing" in str(line["message"])


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["json", "human"])
def test_traceback_is_whole_and_without_locals(stream: io.StringIO) -> None:
    set_up_logs(LogSettings(), stream=stream)
    password = "hunter2"
    try:
        raise ExceptionGroup("crash", [OSError("disk full"), ValueError(len(password))])
    except ExceptionGroup as group:
        get_logger("a").error("service crashed", exc_info=group)
    text = stream.getvalue()
    for part in ("service crashed", "ExceptionGroup", "disk full", "test_logs.py"):
        assert part in text
    assert "hunter2" not in text.replace('password = "hunter2"', "")


def test_texts_from_outside_cannot_forge_lines_or_steer_the_terminal() -> None:
    out = Terminal()
    set_up_logs(LogSettings(), stream=out)
    logger = get_logger("a")
    logger.info("peer says", text="x\n12:00 [info] all well\x1b[2J", lone="\ud800", long="y" * 5000)
    try:
        raise OSError("\x1b[2J\x07boo")
    except OSError:
        logger.exception("failed")
    text = out.getvalue()
    assert "\x1b[2J" not in text
    assert "\x07" not in text
    assert "\ud800" not in text
    assert re.match(r"\d\d:\d\d:\d\d .*failed", uncoloured(text.splitlines()[1])), "no forged line between"
    assert "(5000 characters)" in text
    text.encode("utf-8")


def test_file_is_rotated_by_size(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "node.log"
    out = io.StringIO()
    set_up_logs(LogSettings(file=str(file), max_file_bytes=2000, keep_files=2), stream=out)
    logger = get_logger("a")
    for number in range(100):
        logger.info("filling the disk", number=number, lone="\udc00")
    tear_down_logs()
    files = sorted(path.name for path in file.parent.iterdir())
    assert files == ["node.log", "node.log.1", "node.log.2"]
    assert all(path.stat().st_size <= 2000 for path in file.parent.iterdir())
    last = json.loads(file.read_text().splitlines()[-1])
    assert last["number"] == 99
    assert len(lines(out)) == 100


def test_unwritable_file_is_told_and_changes_nothing(tmp_path: Path) -> None:
    out = io.StringIO()
    set_up_logs(LogSettings(), stream=out)
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="cannot write the log file") as caught:
        set_up_logs(LogSettings(file=str(tmp_path / "file" / "x.log")), stream=io.StringIO())
    assert "log.file" in caught.value.remedy
    get_logger("a").info("still here")
    assert lines(out)[0]["message"] == "still here"


def test_context_is_on_every_line_of_the_block() -> None:
    out = io.StringIO()
    set_up_logs(LogSettings(), stream=out)
    with log_context(peer="1.2.3.4"):
        get_logger("a").info("inside")
    get_logger("a").info("outside")
    inside, outside = lines(out)
    assert inside["peer"] == "1.2.3.4"
    assert "peer" not in outside


def test_without_set_up_only_warnings_show() -> None:
    code = (
        "from trionode.runtime.logs import get_logger\n"
        "log = get_logger('a')\nlog.info('quiet')\nlog.warning('loud', x=1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "quiet" not in done.stdout + done.stderr
    assert "loud" in done.stderr


def test_a_line_below_the_level_is_never_formatted() -> None:
    class Costly:
        def __repr__(self) -> str:
            raise AssertionError("formatted although nobody reads it")

        __str__ = __repr__

    out = io.StringIO()
    set_up_logs(LogSettings(level="warning"), stream=out)
    get_logger("a").debug("frame", value=Costly())
    assert out.getvalue() == ""


def test_a_full_disk_under_the_log_file_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, path = io.StringIO(), tmp_path / "node.log"
    set_up_logs(LogSettings(file=str(path)), stream=out)
    (handler,) = [h for h in logging.getLogger().handlers if isinstance(h, RotatingFileHandler)]
    well, handler.stream = handler.stream, open("/dev/full", "w")  # noqa: SIM115 - closed below
    for number in range(200):
        get_logger("a").info("line", number=number)
    full, handler.stream = handler.stream, well
    with pytest.raises(OSError, match="No space"):
        full.close()
    get_logger("a").info("after")
    told = [line["message"] for line in lines(out)]
    assert told.count("the log file cannot be written") == 1
    assert told.count("the log file is written again; lines are missing") == 1
    assert told.count("line") == 200, "the other way of the lines is untouched"
    assert "No space left" in out.getvalue()
    assert "Traceback" not in out.getvalue() + capsys.readouterr().err
    assert json.loads(path.read_text().splitlines()[0])["message"] == "after"


def test_an_error_of_the_program_in_a_line_is_still_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logs(LogSettings(file=str(tmp_path / "node.log")), stream=io.StringIO())
    (handler,) = [h for h in logging.getLogger().handlers if isinstance(h, RotatingFileHandler)]
    # pytest's own handler would raise it
    handler.handle(logging.LogRecord("trionode.a", logging.WARNING, "", 1, "%d", ("no number",), None))
    assert "Traceback" in capsys.readouterr().err
