from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabagent.core.errors import HTTP_STATUS, RequestError, TabagentError, error_from_code
from tabagent.core.requests import GenerateRequest
from tabagent.protocols.chat import ChatRequest
from tabagent.protocols.wire import (
    MAX_ERROR_CHARS,
    decode,
    encode,
    error_object,
    new_id,
    renamed,
)

MESSAGES = '"messages":[{"role":"user","content":"hi"}]'


def refusal(text: str | bytes) -> tuple[str, str | None]:
    with pytest.raises(TabagentError) as caught:
        decode(text, ChatRequest)
    return caught.value.code, caught.value.param


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "{" + MESSAGES,
        "[]",
        '"text"',
        "null",
        b"\xff{}",
        "{" + MESSAGES + ',"temperature":NaN}',
        "{" + MESSAGES + ',"temperature":Infinity}',
        "{" + MESSAGES + ',"temperature":-Infinity}',
        "{" + MESSAGES + ',"user":"\\ud800"}',
        pytest.param("{" + MESSAGES + ',"extra":' + "[" * 100_000 + "}", id="deep nesting"),
    ],
)
def test_what_is_no_json_object_is_an_invalid_message(text: str | bytes) -> None:
    assert refusal(text) == ("invalid_message", None)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ("", "messages"),
        ('"messages":5', "messages"),
        ('"messages":[{"content":"hi"}]', "messages[0].role"),
        ('"messages":[{"role":"king"}]', "messages[0].role"),
        (MESSAGES + ',"temperature":"hot"', "temperature"),
        (MESSAGES + ',"temperature":1e400', "temperature"),
        (MESSAGES + ',"max_tokens":1.5', "max_tokens"),
        (MESSAGES + ',"max_tokens":true', "max_tokens"),
        (MESSAGES + ',"logit_bias":{"a":1}', "logit_bias"),
        (MESSAGES + ',"logit_bias":[[5]]', "logit_bias[0]"),
        pytest.param(MESSAGES + ',"seed":' + "9" * 10_000, "seed", id="huge seed"),
    ],
)
def test_a_field_of_the_wrong_type_is_blamed_by_its_path(fields: str, param: str) -> None:
    assert refusal("{" + fields + "}") == ("invalid_parameter", param)


def test_unknown_fields_are_ignored() -> None:
    assert decode("{" + MESSAGES + ',"shoe_size":42}', ChatRequest).messages[0].content == "hi"


@given(st.binary() | st.text())
def test_any_input_is_decoded_or_refused_with_a_code(text: str | bytes) -> None:
    with suppress(TabagentError):
        assert isinstance(decode(text, ChatRequest), ChatRequest)


@given(st.text())
def test_text_survives_the_wire(text: str) -> None:
    assert json.loads(encode(text)) == text


@pytest.mark.parametrize("code", HTTP_STATUS)
def test_every_code_has_an_openai_error_type(code: str) -> None:
    wire = error_object(error_from_code(code, "text", param="field"))
    assert (wire.code, wire.message, wire.param) == (code, "text", "field")
    assert wire.type.endswith("_error")
    assert (wire.type == "server_error") == (HTTP_STATUS[code] >= 500 and code != "not_supported")


def test_an_error_does_not_echo_a_long_message() -> None:
    wire = error_object(error_from_code("unknown_type", "x" * 1_000_000))
    assert len(wire.message) == MAX_ERROR_CHARS


def test_ids_do_not_repeat() -> None:
    ids = {new_id("resp_") for _ in range(100)}
    assert len(ids) == 100
    assert all(id_.startswith("resp_") and len(id_) == 37 for id_ in ids)


def test_errors_of_the_domain_name_the_field_as_the_dialect_does() -> None:
    with pytest.raises(RequestError) as caught, renamed(max_tokens="max_output_tokens"):
        GenerateRequest(request_id="r", prompt="hi", max_tokens=-1)
    assert caught.value.param == "max_output_tokens"
    assert str(caught.value).startswith("max_output_tokens: must be")


def test_errors_about_other_fields_are_left_alone() -> None:
    with pytest.raises(RequestError) as caught, renamed(max_tokens="max_output_tokens"):
        GenerateRequest(request_id="r", prompt="hi", stop=("",))
    assert caught.value.param == "stop"
