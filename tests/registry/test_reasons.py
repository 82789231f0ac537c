"""Rejections: every code has its sentence, and a sentence is fit for a person."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path

import pytest

from trionode.registry.reasons import Reason, Rejected, Rejection, reject, shown
from trionode.registry.sentences import SENTENCES

ROOT = Path(__file__).parent.parent.parent


def test_codes_are_those_of_the_vectors() -> None:
    meta = json.loads((ROOT / "tests" / "vectors" / "registry.json").read_text(encoding="utf-8"))["meta"]
    assert sorted(Reason) == sorted(meta["reason_codes"])


def test_codes_of_the_specification_are_known() -> None:
    spec = (ROOT / "docs" / "spec" / "registry.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", spec)) - {"OP_RETURN", "FLUXD_CONFIG_PATH"}
    assert named - {"FLUXOS_PATH"} <= set(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_every_code_has_one_clear_sentence(reason: Reason) -> None:
    template = SENTENCES[reason]
    used = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    assert used <= {"field", "value", "limit"}
    assert template.endswith(".")
    said = Rejection(reason, "compose[0].ports[1]", 70000, "1-65535").sentence
    assert "{" not in said
    assert len(said) < 160


def test_codes_and_sentences_belong_together() -> None:
    assert set(SENTENCES) == set(Reason)


def test_a_rejection_names_code_field_value_and_limit() -> None:
    with pytest.raises(Rejected) as caught:
        reject(Reason.PORT_RANGE, "ports[1]", 70000, "1-65535")
    error = caught.value.inside("compose[0]")
    assert error.code == "PORT_RANGE"
    assert error.reason is Reason.PORT_RANGE
    assert str(error) == "compose[0].ports[1] is 70000, outside of the allowed range 1-65535."
    assert error.one_line() == str(error)
    assert error.rejection.as_document() == {
        "code": "PORT_RANGE",
        "field": "compose[0].ports[1]",
        "value": "70000",
        "limit": "1-65535",
        "sentence": str(error),
    }


def test_a_rejection_of_a_whole_part_takes_the_path_of_the_part() -> None:
    assert Rejection(Reason.SPEC_NOT_OBJECT).inside("compose[2]").field == "compose[2]"


def test_notes_follow_the_sentence() -> None:
    told = Rejection(Reason.NAME_TAKEN, "name", "web", None, "Choose another.").sentence
    assert told == 'the app name "web" is taken. Choose another.'


def test_values_are_shown_short() -> None:
    assert shown(None) == "nothing"
    assert shown(True) == "true"
    assert shown("x" * 500).endswith("...")
    assert len(shown(["y" * 500])) == 70
