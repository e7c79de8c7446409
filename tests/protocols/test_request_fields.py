"""Fields that every dialect takes, sent through each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tabagent.core.requests import LOCAL, GenerateRequest, SamplingParams
from tabagent.protocols.chat import ChatProtocol
from tabagent.protocols.completions import CompletionsProtocol
from tabagent.protocols.response_exchange import ResponsesExchange

from tests.protocols.peer import Peer

if TYPE_CHECKING:
    from tabagent.protocols.exchange import Exchange

DIALECTS: list[tuple[type[Exchange], dict[str, Any]]] = [
    (ChatProtocol, {"messages": [{"role": "user", "content": "hi"}]}),
    (CompletionsProtocol, {"prompt": "hi"}),
    (ResponsesExchange, {"input": "hi"}),
]


@pytest.fixture(params=DIALECTS, ids=["chat", "completions", "responses"])
def dialect(request: pytest.FixtureRequest) -> Any:
    return request.param


def ask(dialect: tuple[type[Exchange], dict[str, Any]], **fields: Any) -> GenerateRequest:
    protocol, body = dialect
    return Peer(protocol(LOCAL)).ask(body | fields)


def refusal(dialect: tuple[type[Exchange], dict[str, Any]], **fields: Any) -> Any:
    protocol, body = dialect
    return Peer(protocol(LOCAL)).refusal(body | fields)


def test_absent_fields_leave_the_choice_to_the_model(dialect: Any) -> None:
    request = ask(dialect)
    assert request.sampling == SamplingParams()
    assert (request.model, request.max_tokens, request.stop) == (None, None, ())
    assert request.logprobs is None
    assert request.principal == LOCAL


def test_null_fields_are_absent_ones(dialect: Any) -> None:
    names = ["model", "stream", "temperature", "top_p", "seed", "stop", "logit_bias", "ignore_eos"]
    assert ask(dialect, **dict.fromkeys(names)).sampling == SamplingParams()


def test_sampling_fields_have_the_names_of_openai_and_llama_server(dialect: Any) -> None:
    request = ask(
        dialect,
        model="m",
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        min_p=0.1,
        repeat_penalty=1.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        seed=7,
        logit_bias={"15": -100},
        ignore_eos=True,
        stop=["a", "b"],
    )
    assert request.model == "m"
    assert request.stop == ("a", "b")
    assert request.sampling == SamplingParams(
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        min_p=0.1,
        repeat_penalty=1.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        seed=7,
        logit_bias={15: -100.0},
        ignore_eos=True,
    )


def test_one_stop_string_needs_no_list(dialect: Any) -> None:
    assert ask(dialect, stop="END").stop == ("END",)


def test_biases_may_be_pairs_where_false_forbids_a_token(dialect: Any) -> None:
    request = ask(dialect, logit_bias=[[1, 2.5], [2, False]])
    assert request.sampling.logit_bias == {1: 2.5, 2: -1000.0}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("top_p", 1.5),
        ("top_k", -1),
        ("min_p", -0.1),
        ("repeat_penalty", 0),
        ("presence_penalty", 1e9),
        ("frequency_penalty", -1e9),
        ("seed", -1),
        ("logit_bias", {"-1": 1}),
        ("logit_bias", {"1": 1e9}),
        ("logit_bias", [[1, True]]),
        ("stop", [""]),
        ("stop", ["x"] * 17),
        ("stop", "x" * 257),
        ("model", 5),
        ("stream", "yes"),
    ],
)
def test_a_wrong_value_is_blamed_on_its_field(dialect: Any, field: str, value: Any) -> None:
    assert refusal(dialect, **{field: value}) == ("invalid_parameter", field)


def test_each_request_has_an_id_of_its_own(dialect: Any) -> None:
    assert ask(dialect).request_id != ask(dialect).request_id
