"""The stock OpenAI SDK as a client of a real server with a real model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai import OpenAI

from tests.gguf_fixtures import KNOWN_ANSWER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai.resources.responses.responses import ResponsesConnection

USER: Any = [{"role": "user", "content": "Say it."}]
ENDLESS = {"model": "long", "ignore_eos": True}


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server}/v1", api_key="anything", max_retries=0) as client:
        yield client


class TestChat:
    def test_a_stream(self, client: OpenAI) -> None:
        stream = client.chat.completions.create(
            model="chain",
            messages=USER,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
        assert chunks[0].choices[0].delta.role == "assistant"
        text = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert "".join(text) == KNOWN_ANSWER
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens > 10
        assert {chunk.model for chunk in chunks} == {"chain"}

    def test_the_streaming_helper(self, client: OpenAI) -> None:
        with client.chat.completions.stream(model="chain", messages=USER, temperature=0) as stream:
            stream.until_done()
            completion = stream.get_final_completion()
        assert completion.choices[0].message.content == KNOWN_ANSWER

    def test_a_whole_answer(self, client: OpenAI) -> None:
        completion = client.chat.completions.create(
            model="chain", messages=USER, temperature=0, seed=7
        )
        assert completion.choices[0].message.content == KNOWN_ANSWER
        assert completion.choices[0].finish_reason == "stop"
        assert completion.model_extra is not None
        assert completion.model_extra["seed"] == 7
        assert completion.usage is not None
        assert completion.usage.total_tokens == (
            completion.usage.prompt_tokens + completion.usage.completion_tokens
        )

    def test_limits_stops_and_logprobs(self, client: OpenAI) -> None:
        completion = client.chat.completions.create(
            model="chain",
            messages=USER,
            temperature=0,
            max_tokens=3,
            logprobs=True,
            top_logprobs=2,
        )
        assert completion.choices[0].finish_reason == "length"
        logprobs = completion.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content is not None
        assert "".join(entry.token for entry in logprobs.content) == "Tokens flow like"
        assert [len(entry.top_logprobs) for entry in logprobs.content] == [2, 2, 2]
        stopped = client.chat.completions.create(
            model="chain", messages=USER, temperature=0, stop=" like"
        )
        assert stopped.choices[0].message.content == "Tokens flow"
        assert stopped.choices[0].finish_reason == "stop"

    def test_errors_have_their_class_and_code(self, client: OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as unknown:
            client.chat.completions.create(model="nope", messages=USER)
        assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.BadRequestError) as negative:
            client.chat.completions.create(model="chain", messages=USER, max_tokens=-1)
        assert (negative.value.code, negative.value.param) == ("invalid_parameter", "max_tokens")
        with pytest.raises(openai.BadRequestError) as long:
            client.chat.completions.create(
                model="chain", messages=[{"role": "user", "content": "x" * 100_000}]
            )
        assert long.value.code == "context_length_exceeded"

    def test_a_late_error_ends_a_stream(self, client: OpenAI) -> None:
        stream = client.chat.completions.create(
            model="chain", messages=[{"role": "user", "content": "x" * 100_000}], stream=True
        )
        with pytest.raises(openai.APIError) as caught:
            list(stream)
        assert caught.value.code == "context_length_exceeded"

    def test_leaving_a_stream_frees_its_slot(self, client: OpenAI) -> None:
        for _ in range(8):  # more than are decoded together
            stream = client.chat.completions.create(
                model="long", messages=USER, stream=True, extra_body=ENDLESS
            )
            next(iter(stream))
            stream.close()
        answer = client.chat.completions.create(model="long", messages=USER, max_tokens=1)
        assert answer.choices[0].finish_reason == "length"


class TestCompletions:
    def test_a_stream(self, client: OpenAI) -> None:
        stream = client.completions.create(
            model="chain", prompt="Say it.", temperature=0, stream=True
        )
        assert "".join(chunk.choices[0].text for chunk in stream) == KNOWN_ANSWER

    def test_token_ids_in_and_out(self, client: OpenAI) -> None:
        completion = client.completions.create(
            model="chain",
            prompt=[300, 301],
            temperature=0,
            max_tokens=4,
            logprobs=1,
            extra_body={"return_token_ids": True},
        )
        choice = completion.choices[0]
        assert choice.text == "Tokens flow like water"
        assert choice.model_extra is not None
        assert choice.model_extra["prompt_token_ids"] == [300, 301]
        assert len(choice.model_extra["token_ids"]) == 4
        assert choice.logprobs is not None
        assert choice.logprobs.tokens == ["Tokens", " flow", " like", " water"]
        assert completion.usage is not None
        assert completion.usage.prompt_tokens == 2


class TestResponses:
    def test_a_whole_answer(self, client: OpenAI) -> None:
        response = client.responses.create(
            model="chain", input="Say it.", instructions="Be brief.", temperature=0
        )
        assert response.output_text == KNOWN_ANSWER
        assert response.status == "completed"
        assert response.usage is not None
        assert response.usage.output_tokens > 10

    def test_the_streaming_helper(self, client: OpenAI) -> None:
        with client.responses.stream(
            model="chain",
            input="Say it.",
            temperature=0,
            extra_body={"tabagent": {"events": True}},
        ) as stream:
            events = list(stream)
            response = stream.get_final_response()
        assert [events[0].type, events[-1].type] == ["response.created", "response.completed"]
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert "".join(deltas) == response.output_text == KNOWN_ANSWER

    def test_an_incomplete_answer(self, client: OpenAI) -> None:
        stream = client.responses.create(
            model="chain", input="Say it.", temperature=0, max_output_tokens=3, stream=True
        )
        *_, last = stream
        assert last.type == "response.incomplete"
        assert last.response.incomplete_details is not None
        assert last.response.incomplete_details.reason == "max_output_tokens"
        assert last.response.output_text == "Tokens flow like"

    def test_the_last_answer_may_be_sent_back(self, client: OpenAI) -> None:
        first = client.responses.create(model="chain", input="Say it.", temperature=0)
        turns: Any = [
            {"role": "user", "content": "Say it."},
            *first.output,
            {"role": "user", "content": "Again."},
        ]
        again = client.responses.create(model="chain", input=turns, temperature=0)
        assert again.output_text == KNOWN_ANSWER


class TestResponsesOverWebSocket:
    @pytest.fixture
    def connection(self, client: OpenAI) -> Iterator[ResponsesConnection]:
        with client.responses.connect() as connection:
            yield connection

    def create(self, connection: ResponsesConnection, **fields: Any) -> None:
        event: Any = {"type": "response.create", "input": "Say it.", "temperature": 0, **fields}
        connection.send(event)

    def test_a_conversation(self, connection: ResponsesConnection) -> None:
        for _ in range(2):
            self.create(connection, model="chain")
            *events, last = until_the_end(connection)
            assert events[0].type == "response.created"
            assert [event.sequence_number for event in events] == list(range(len(events)))
            deltas = [event.delta for event in events if event.type.endswith("text.delta")]
            assert "".join(deltas) == last.response.output_text == KNOWN_ANSWER

    def test_two_lanes_at_once_one_cancelled_the_other_finishes(
        self, connection: ResponsesConnection
    ) -> None:
        self.create(connection, stream_id="endless", **ENDLESS)
        self.create(connection, stream_id="known", model="chain")
        ends: dict[str, Any] = {}
        cancelled = False
        event: Any
        for event in connection:
            lane = event.stream_id
            if lane == "endless" and event.type == "response.output_text.delta" and not cancelled:
                cancelled = True
                cancel: Any = {"type": "response.cancel", "stream_id": "endless"}
                connection.send(cancel)
            if event.type in ("response.completed", "response.incomplete", "response.failed"):
                ends[lane] = event
            if len(ends) == 2:
                break
        assert ends["endless"].type == "response.incomplete"
        assert ends["endless"].response.status == "cancelled"
        assert ends["endless"].response.incomplete_details.reason == "cancelled"
        assert ends["known"].type == "response.completed"
        assert ends["known"].response.output_text == KNOWN_ANSWER

    def test_reading_the_prompt_only(self, connection: ResponsesConnection) -> None:
        self.create(connection, model="chain", generate=False)
        *_, last = until_the_end(connection)
        assert last.type == "response.completed"
        assert last.response.output == []
        assert last.response.usage.input_tokens > 0

    def test_an_error_leaves_the_connection_usable(self, connection: ResponsesConnection) -> None:
        self.create(connection, model="nope")
        error: Any = connection.recv()
        assert error.type == "error"
        assert error.error.code == "model_not_found"
        self.create(connection, model="chain")
        *_, last = until_the_end(connection)
        assert last.response.output_text == KNOWN_ANSWER


def until_the_end(connection: ResponsesConnection) -> Iterator[Any]:
    """The events of one response, to its last."""
    event: Any
    for event in connection:
        yield event
        if event.type in ("response.completed", "response.incomplete", "response.failed"):
            return


def test_models_are_listed(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["chain", "long"]
    assert client.models.retrieve("chain").owned_by == "tabagent"
