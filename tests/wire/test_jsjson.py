"""Limits, speed traps and error words of the JSON reader and printer (docs/spec/wire.md §8)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.errors import WireError
from trionode.wire import jsjson
from trionode.wire.jsjson import MAX_DEPTH, is_array_index, parse, stringify, truthy, utf16_length


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"b":', "}]")])
def test_depth_limit_is_exact(opening: str, closing: str) -> None:
    levels = MAX_DEPTH if len(opening) < 6 else MAX_DEPTH // 2
    fits = opening * levels + "1" + closing * levels
    assert stringify(parse(fits)) == fits
    with pytest.raises(WireError, match="nested deeper than 200"):
        parse(f"[{fits}]")


@pytest.mark.parametrize(
    "text",
    ["[" * 3_000_000, '{"a":' * 600_000, "[" * 201 + "]" * 201, '"' + "[" * 600, "[{" * 150 + "}]" * 149],
)
def test_bombs_are_refused_quickly(text: str) -> None:
    began = time.process_time()
    with pytest.raises(WireError):
        parse(text)
    assert time.process_time() - began < 5


def test_many_brackets_side_by_side_are_no_depth() -> None:
    text = "[" + ",".join(['{"a":[[],{}]}'] * 5000) + "]"
    assert stringify(parse(text)) == text


def test_brackets_inside_strings_are_no_depth() -> None:
    text = stringify(["[" * 2000, "{" * 2000, '\\"[' * 1000])
    assert stringify(parse(text)) == text


def test_unclosed_strings_with_many_escapes_take_linear_time() -> None:
    text = "[" * 400 + '"' + '\\"[' * 200_000
    began = time.process_time()
    with pytest.raises(WireError):
        parse(text)
    assert time.process_time() - began < 5


def test_huge_whole_numbers_become_doubles() -> None:
    assert stringify(parse("[" + "9" * 5000 + "]")) == "[null]"
    assert parse("[1" + "0" * 300 + "]") == [1e300]
    assert stringify({"a": 10**400}) == '{"a":null}'


def test_numbers_keep_their_kind() -> None:
    values = parse("[1.0,9007199254740992,9007199254740993,-0,1e2,0.5]")
    assert [type(value) for value in values] == [int, int, int, int, int, float]
    assert type(parse("[9007199254740994]")[0]) is float


def test_not_a_number_prints_null() -> None:
    assert stringify([float("nan"), float("inf"), -float("inf"), 1.0, -0.0]) == "[null,null,null,1,0]"


def test_hand_built_objects_print_in_javascript_order() -> None:
    assert stringify({"b": 1, "10": 2, "9": {"z": 0, "1": 1}}) == '{"9":{"1":1,"z":0},"10":2,"b":1}'


@pytest.mark.parametrize("value", [b"x", {1, 2}, object(), {"a": object()}, 1j])
def test_values_without_json_text_are_refused(value: object) -> None:
    with pytest.raises(WireError, match="no JSON text"):
        stringify(value)


def test_errors_name_the_place_and_have_a_remedy() -> None:
    with pytest.raises(WireError, match="char 7") as caught:
        parse('{"a":1 "b"}')
    assert caught.value.remedy


@given(st.text())
def test_parse_raises_nothing_but_wire_errors(text: str) -> None:
    try:
        value = parse(text)
    except WireError:
        return
    assert parse(stringify(value)) == value


@given(st.text(st.characters(exclude_categories=())))
def test_lone_surrogates_survive(text: str) -> None:
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    printed = stringify({"k": text})
    printed.encode()  # is well-formed
    assert parse(printed) == {"k": joined}
    assert utf16_length(text) == len(text.encode("utf-16-le", "surrogatepass")) // 2


def test_array_index_keys() -> None:
    indexes = ["0", "1", "10", "4294967294"]
    others = ["", "00", "01", "-1", "1.0", "4294967295", "99999999999", "1e1", "٣", "²", " 1"]
    assert all(map(is_array_index, indexes))
    assert not any(map(is_array_index, others))


def test_truth_as_in_javascript() -> None:
    assert all(map(truthy, [[], {}, "0", " ", -1, 0.1, float("inf"), True]))
    assert not any(map(truthy, [None, False, 0, -0.0, "", float("nan")]))


def test_fast_path_is_taken_for_ordinary_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise AssertionError("exact path taken")

    monkeypatch.setattr(jsjson, "_parse_exact", refuse)
    monkeypatch.setattr(jsjson, "_print_exact", refuse)
    text = (
        '{"version":1,"timestamp":1700000000005,"pubKey":"04eca93717","data":{"type":"fluxapprunning","apps":'
        '[{"name":"ÄppTwo🚀","hash":"0e511e21","runningSince":"2025-01-02T03:04:05.678Z"}],"osUptime":12345.67,'
        '"error":"{\\"status\\":\\"error\\",\\"data\\":{\\"code\\":5}}"}}'
    )
    assert stringify(parse(text)) == text
