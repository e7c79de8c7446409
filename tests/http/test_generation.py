from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from tabagent.core.engine import Engine
from tabagent.core.errors import BackendError, RequestError
from tabagent.core.events import Failed, Finished, FinishReason, Started, TextDelta, Usage

from tests.http.conftest import MODEL, serve, submitted

if TYPE_CHECKING:
    from tabagent.testing import ScriptedBackend

    from tests.http.client import Client

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "hi"}]},
    COMPLETIONS: {"prompt": "hi"},
    RESPONSES: {"input": "hi"},
}


@pytest.fixture(params=BODIES)
def route(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def text_of(route: str, answer: Any) -> str:
    if route == CHAT:
        return str(answer["choices"][0]["message"]["content"])
    if route == COMPLETIONS:
        return str(answer["choices"][0]["text"])
    return str(answer["output"][0]["content"][0]["text"])


async def test_a_whole_answer(client: Client, backend: ScriptedBackend, route: str) -> None:
    async with client.stream("POST", route, BODIES[route]) as answer:
        id_ = await submitted(backend)
        backend.emit(id_, Started(id_, "m", 5), TextDelta(id_, "Hel", (1,)))
        backend.emit(id_, TextDelta(id_, "lo", (2,)), Finished(id_, FinishReason.STOP))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert text_of(route, answer.json) == "Hello"


async def test_a_stream_sends_each_piece_as_it_comes(
    client: Client, backend: ScriptedBackend, route: str
) -> None:
    async with client.stream("POST", route, BODIES[route] | {"stream": True}) as answer:
        await answer.started()
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        id_ = await submitted(backend)
        backend.emit(id_, Started(id_, "m", 5), TextDelta(id_, "one", (1,)))
        await answer.until("one")
        assert "two" not in answer.text
        backend.emit(id_, TextDelta(id_, "two", (2,)))
        await answer.until("two")
        backend.emit(id_, Finished(id_, FinishReason.STOP))
    assert answer.finished
    assert answer.text.endswith("data: [DONE]\n\n") == (route != RESPONSES)


async def test_a_responses_stream_names_its_events(
    client: Client, backend: ScriptedBackend
) -> None:
    async with client.stream("POST", RESPONSES, BODIES[RESPONSES] | {"stream": True}) as answer:
        await answer.until("event: response.created\ndata: {")
        id_ = await submitted(backend)
        backend.emit(id_, Started(id_, "m", 5), Finished(id_, FinishReason.STOP))
    names = [line[len("event: ") :] for line in answer.text.splitlines() if line[:5] == "event"]
    assert names == [event["type"] for event in answer.data]
    assert names[-1] == "response.completed"


async def test_what_is_wrong_with_the_body_is_a_status_even_for_streams(
    client: Client, route: str
) -> None:
    body = BODIES[route] | {"stream": True, "temperature": -1}
    answer = await client.post(route, body)
    assert answer.error == (400, "invalid_parameter", "temperature")


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"\xff", b'{"temperature":NaN}'])
async def test_what_is_no_json_object_is_refused(client: Client, route: str, body: bytes) -> None:
    assert (await client.post(route, body)).error == (400, "invalid_message", None)


async def test_an_unknown_model_is_a_status_even_for_streams(client: Client, route: str) -> None:
    answer = await client.post(route, BODIES[route] | {"model": "nope", "stream": True})
    assert answer.error == (404, "model_not_found", "model")


async def test_a_full_queue_is_a_status_that_says_when_to_come_back(
    client: Client, backend: ScriptedBackend
) -> None:
    body = BODIES[CHAT] | {"stream": True}
    async with client.stream("POST", CHAT, body) as first:
        await submitted(backend)
        async with client.stream("POST", CHAT, body) as second:
            await submitted(backend, 2)
            refused = await client.post(CHAT, body)
            assert refused.error == (429, "overloaded", None)
            assert refused.headers["retry-after"] == "1"
            second.leave()
        first.leave()


async def test_a_failure_has_its_status_when_nothing_was_sent(
    client: Client, backend: ScriptedBackend, route: str
) -> None:
    async with client.stream("POST", route, BODIES[route]) as answer:
        id_ = await submitted(backend)
        error = RequestError("context_length_exceeded", "too long", param="messages")
        backend.emit(id_, Failed(id_, error))
    assert answer.error == (400, "context_length_exceeded", "messages")


async def test_a_failure_of_a_stream_is_its_last_event(
    client: Client, backend: ScriptedBackend, route: str
) -> None:
    async with client.stream("POST", route, BODIES[route] | {"stream": True}) as answer:
        await answer.started()
        id_ = await submitted(backend)
        backend.emit(id_, Started(id_, "m", 5), TextDelta(id_, "one", (1,)))
        backend.emit(id_, Failed(id_, BackendError("decode_failed", "broken")))
    assert answer.status == 200
    last = answer.data[-1]
    error = last["response"]["error"] if route == RESPONSES else last["error"]
    assert (error["code"], error["message"]) == ("decode_failed", "broken")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_cancels_its_request(
    client: Client, backend: ScriptedBackend, route: str, stream: bool
) -> None:
    async with client.stream("POST", route, BODIES[route] | {"stream": stream}) as answer:
        id_ = await submitted(backend)
        backend.emit(id_, Started(id_, "m", 5), TextDelta(id_, "one", (1,)))
        answer.leave()
    assert backend.cancelled == [id_]
    assert not answer.finished


async def test_a_client_that_leaves_before_its_body_is_whole_asks_for_nothing(
    client: Client, backend: ScriptedBackend
) -> None:
    async with client.stream("POST", CHAT, b"{", whole=False) as answer:
        answer.leave()
    assert (answer.status, backend.submitted) == (0, [])


async def test_what_has_been_sent_gives_its_credit_back(
    client: Client, backend: ScriptedBackend
) -> None:
    async with client.stream("POST", CHAT, BODIES[CHAT] | {"stream": True}) as answer:
        id_ = await submitted(backend)
        tokens = tuple(range(backend.running[id_].credit))
        backend.emit(id_, Started(id_, "m", 5), TextDelta(id_, "many", tokens))
        await answer.until("many")
        await anyio.wait_all_tasks_blocked()
        assert backend.granted == [(id_, len(tokens))]
        backend.emit(id_, Finished(id_, FinishReason.STOP))


async def test_a_cancelled_request_says_so(client: Client, backend: ScriptedBackend) -> None:
    async with client.stream("POST", CHAT, BODIES[CHAT]) as answer:
        backend.cancel(await submitted(backend))
    assert answer.json["choices"][0]["finish_reason"] == "cancelled"


class TestWhileAModelLoads:
    @pytest.fixture
    def backend(self, backend: ScriptedBackend) -> ScriptedBackend:
        backend.may_load = anyio.Event()
        return backend

    async def test_headers_and_comments_keep_a_stream_alive(
        self, engine: Engine, backend: ScriptedBackend, route: str
    ) -> None:
        client = serve(engine, keep_alive_interval=0.001)
        async with client.stream("POST", route, BODIES[route] | {"stream": True}) as answer:
            await answer.until(": keep-alive\n\n: keep-alive\n\n")
            assert answer.status == 200
            backend.may_load.set()
            id_ = await submitted(backend)
            backend.emit(id_, Started(id_, "m", 1), Finished(id_, FinishReason.STOP))
        assert answer.finished
        assert answer.data

    async def test_a_response_is_created_at_once(
        self, engine: Engine, backend: ScriptedBackend
    ) -> None:
        body = BODIES[RESPONSES] | {"stream": True}
        async with serve(engine).stream("POST", RESPONSES, body) as answer:
            await answer.until("response.created")
            answer.leave()
        assert backend.submitted == []
        backend.may_load.set()

    async def test_the_load_is_told_when_asked_for(
        self, engine: Engine, backend: ScriptedBackend
    ) -> None:
        body = BODIES[RESPONSES] | {"stream": True, "tabagent": {"events": True}}
        async with serve(engine).stream("POST", RESPONSES, body) as answer:
            await answer.until("tabagent.queued")
            await anyio.wait_all_tasks_blocked()
            backend.may_load.set()
            await answer.until('"state":"ready"')
            id_ = await submitted(backend)
            backend.emit(id_, Started(id_, "m", 1), Finished(id_, FinishReason.STOP))
        assert answer.data[0]["type"] == "response.created"
        states = [event for event in answer.data if event["type"] == "tabagent.model.state"]
        assert states[-1]["model"] == "m"

    async def test_a_failed_load_fails_what_waits_for_it(
        self, engine: Engine, backend: ScriptedBackend, route: str
    ) -> None:
        backend.load_error = BackendError("gguf_invalid", "not a model")
        async with serve(engine).stream("POST", route, BODIES[route]) as answer:
            with anyio.fail_after(10):
                while not engine.activity()[0].queued:
                    await anyio.lowlevel.checkpoint()
            backend.may_load.set()
        assert answer.error == (400, "gguf_invalid", None)


async def test_a_server_that_shuts_down_says_so(backend: ScriptedBackend, route: str) -> None:
    async with Engine({"scripted": backend}, [MODEL]) as engine:
        client = serve(engine)
    answer = await client.post(route, BODIES[route])
    assert answer.error == (503, "shutting_down", None)


async def test_usage_of_a_request_reaches_the_metrics(
    client: Client, backend: ScriptedBackend
) -> None:
    async with client.stream("POST", CHAT, BODIES[CHAT]):
        id_ = await submitted(backend)
        backend.emit(id_, Finished(id_, FinishReason.LENGTH, Usage(5, 3, 2)))
    text = (await client.get("/metrics")).text
    assert 'tabagent_requests_total{reason="length"} 1\n' in text
    assert "tabagent_prompt_tokens_total 5\n" in text
    assert "tabagent_completion_tokens_total 3\n" in text
