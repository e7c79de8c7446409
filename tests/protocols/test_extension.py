"""The extension's message set: golden conversations, and what holds for any."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabagent import __version__
from tabagent.core.errors import BackendError, RequestError
from tabagent.core.events import (
    Failed,
    Finished,
    FinishReason,
    ModelsListed,
    ModelState,
    ModelStateChanged,
    ModelStatus,
    Queued,
    SystemDescribed,
    TextDelta,
    Timings,
    Usage,
)
from tabagent.core.requests import (
    LOCAL,
    CancelRequest,
    DescribeSystem,
    GenerateRequest,
    ListModels,
    LoadModel,
    Message,
    Principal,
    SamplingParams,
    UnloadModel,
)
from tabagent.protocols.extension import MAX_OPEN, UNSUPPORTED, ExtensionProtocol

from tests.protocols.peer import Peer, started

IDS: dict[str, Any] = {"requestId": "r1", "chatId": "c", "messageId": 7}
HELLO = {"action": "generate", "messages": [{"role": "user", "content": "Hi"}], **IDS}
READY = ModelStatus("m", "gguf", ModelState.READY, 1.0, None, 64, 1000, device="cpu")
SPARE = ModelStatus("spare", "gguf", ModelState.UNLOADED)
SYSTEM: dict[str, Any] = {
    "version": "1",
    "cpu": {"cores": 4},
    "memory": {"total": 5},
    "gpus": [],
    "runtime": None,
}


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def peer(clock: Clock) -> Peer:
    """A peer that has said something already: it is no one-shot connection."""
    peer = Peer(ExtensionProtocol(LOCAL, clock))
    peer.say({"action": "ping", "requestId": 0})
    return peer


def fresh(principal: Principal = LOCAL) -> Peer:
    return Peer(ExtensionProtocol(principal))


def succeeded(action: str, payload: dict[str, Any], **ids: Any) -> dict[str, Any]:
    return {"status": "success", "action": action, **ids, "payload": payload}


def refused(answers: list[dict[str, Any]], **ids: Any) -> str:
    """The code of the one error reply, which carries `ids`."""
    [answer] = answers
    assert answer["status"] == "error"
    assert answer["error"]
    assert {key: answer[key] for key in ids} == ids
    return str(answer["code"])


def request_of(peer: Peer) -> Any:
    [request] = peer.requests()
    return request


def generation(peer: Peer, **fields: Any) -> GenerateRequest:
    """Ask, let the engine accept, and return the request."""
    request = peer.ask(HELLO | fields)
    peer.accept(request)
    return request


def done(request: GenerateRequest, reason: FinishReason = FinishReason.STOP) -> Finished:
    return Finished(request.request_id, reason, Usage(5, 3), Timings(decode_ms=1500.0))


def delta(request: GenerateRequest, text: str, *tokens: int) -> TextDelta:
    return TextDelta(request.request_id, text, tokens)


class TestMessages:
    def test_a_ping_is_answered(self) -> None:
        [answer] = fresh().say({"action": "ping", **IDS})
        assert answer.pop("payload").keys() == {"response", "version", "pid"}
        assert answer == {"status": "success", "action": "ping", **IDS}

    def test_the_pong_tells_the_version(self) -> None:
        [answer] = fresh().say({"action": "ping"})
        assert answer["payload"]["response"] == "pong"
        assert answer["payload"]["version"] == __version__

    @pytest.mark.parametrize(
        ("message", "code"),
        [
            ("{", "invalid_message"),
            ("[]", "invalid_message"),
            (b"\xff", "invalid_message"),
            ({}, "invalid_message"),
            ({"type": "response.create"}, "invalid_message"),
            ({"action": "dance"}, "unknown_type"),
            ({"action": "execute_command"}, "unknown_type"),
            ({"action": 5}, "invalid_parameter"),
            ({"action": "ping", "requestId": {}}, "invalid_parameter"),
            ({"action": "ping", "chatId": "x" * 257}, "invalid_parameter"),
        ],
    )
    def test_what_is_not_understood_gets_an_error_reply(
        self, peer: Peer, message: dict[str, Any] | str | bytes, code: str
    ) -> None:
        assert refused(peer.say(message)) == code
        assert peer.requests() == []
        assert len(peer.say({"action": "ping"})) == 1

    @pytest.mark.parametrize("action", sorted(UNSUPPORTED))
    def test_what_is_not_there_says_so(self, peer: Peer, action: str) -> None:
        assert refused(peer.say({"action": action, **IDS}), action=action, **IDS) == "not_supported"

    def test_the_keep_alive_of_the_connection_is_understood(self, peer: Peer) -> None:
        assert peer.say({"type": "tabagent.ping"}) == [{"type": "tabagent.pong"}]
        assert peer.say({"type": "tabagent.pong"}) == []

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
    def test_any_value_anywhere_gets_one_reply(self, value: Any) -> None:
        for action in ("generate", "load_model", "set_params", "stop_generation", "ping"):
            for field in ("messages", "prompt", "settings", "modelPath", "requestId", "stream"):
                peer = fresh()
                message = {"action": action, "requestId": "r", field: value}
                answers = peer.say(json.dumps(message))
                assert len(answers) + len(peer.requests()) == 1


class TestGenerating:
    def test_a_conversation(self, peer: Peer, clock: Clock) -> None:
        request = peer.ask(HELLO)
        assert request.messages == (Message("user", "Hi"),)
        assert peer.accept(request) == [succeeded("generate", {}, **IDS)]
        queued = Queued(request.request_id, 1)
        assert peer.tell(queued, started(request)) == []
        assert peer.tell(delta(request, "Hel", 1)) == [
            {
                "type": "generationUpdate",
                "payload": {"token": "Hel", "tps": 0.0, "numTokens": 1} | IDS,
            }
        ]
        clock.now += 0.5
        assert peer.tell(delta(request, "lo", 2, 3)) == [
            {
                "type": "generationUpdate",
                "payload": {"token": "lo", "tps": 4.0, "numTokens": 3} | IDS,
            }
        ]
        answer = {"output": "Hello", "generatedText": "Hello", "tps": 2.0, "numTokens": 3}
        assert peer.tell(done(request)) == [{"type": "generationComplete", "payload": answer | IDS}]

    def test_without_timings_the_rate_is_what_was_seen(self, peer: Peer, clock: Clock) -> None:
        request = generation(peer)
        peer.tell(delta(request, "a", 1))
        clock.now += 2
        peer.tell(delta(request, "b", 2))
        [complete] = peer.tell(Finished(request.request_id, FinishReason.LENGTH))
        assert complete["payload"]["tps"] == 0.5

    def test_held_back_characters_make_no_event(self, peer: Peer) -> None:
        request = generation(peer)
        assert peer.tell(delta(request, "", 1)) == []
        [update] = peer.tell(delta(request, "é", 2))
        assert update["payload"]["numTokens"] == 2

    @given(st.lists(st.text(max_size=5), max_size=8))
    def test_updates_concatenate_to_the_output(self, texts: list[str]) -> None:
        peer = fresh()
        request = generation(peer)
        heard = peer.tell(*(delta(request, text, 1) for text in texts), done(request))
        tokens = [event["payload"]["token"] for event in heard[:-1]]
        assert "".join(tokens) == heard[-1]["payload"]["output"] == "".join(texts)

    def test_a_refused_request_gets_an_error_reply(self, peer: Peer) -> None:
        request = peer.ask(HELLO)
        error = RequestError("model_not_found", "no model is loaded")
        answers = peer.tell(Failed(request.request_id, error))
        assert refused(answers, action="generate", **IDS) == "model_not_found"

    def test_a_failure_after_that_is_an_event(self, peer: Peer) -> None:
        request = generation(peer)
        peer.tell(delta(request, "a", 1))
        error = BackendError("decode_failed", "it broke")
        assert peer.tell(Failed(request.request_id, error)) == [
            {
                "type": "generationError",
                "payload": {"code": "decode_failed", "error": "it broke"} | IDS,
            }
        ]

    def test_several_run_at_once(self, peer: Peer) -> None:
        requests = [generation(peer, requestId=number) for number in range(3)]
        for number in (2, 0, 1):
            [update] = peer.tell(delta(requests[number], "x", 1))
            assert update["payload"]["requestId"] == number

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"messages": None}, "invalid_parameter"),
            ({"messages": []}, "invalid_parameter"),
            ({"messages": [{"role": "system", "content": "x"}]}, "invalid_parameter"),
            ({"messages": [{"role": "user", "content": 5}]}, "invalid_parameter"),
            ({"messages": [{"role": "king", "content": "x"}]}, "invalid_parameter"),
            ({"messages": [{"role": "tool", "content": "x"}]}, "not_supported"),
            ({"prompt": "both"}, "invalid_parameter"),
            ({"settings": {"temperature": -1}}, "invalid_parameter"),
            ({"settings": []}, "invalid_parameter"),
        ],
    )
    def test_wrong_fields_are_refused(self, peer: Peer, fields: Any, code: str) -> None:
        assert refused(peer.say(HELLO | fields), **IDS) == code
        assert peer.requests() == []

    def test_generating_needs_its_scope(self) -> None:
        reader = fresh(Principal("reader", frozenset()))
        assert refused(reader.say(HELLO)) == "scope_required"

    def test_the_requests_of_a_connection_are_bounded(self, peer: Peer) -> None:
        requests = [generation(peer, requestId=number) for number in range(MAX_OPEN)]
        assert refused(peer.say(HELLO)) == "overloaded"
        peer.tell(done(requests[0]))
        peer.ask(HELLO)


class TestStopping:
    @pytest.mark.parametrize("ids", [{"requestId": "r1"}, {"messageId": 7}])
    def test_a_generation_is_stopped_by_either_id(self, peer: Peer, ids: dict[str, Any]) -> None:
        request = generation(peer)
        answers = peer.say({"action": "stop_generation", **ids})
        assert answers == [succeeded("stop_generation", {}, **ids)]
        assert request_of(peer) == CancelRequest(request.request_id)
        peer.tell(delta(request, "so far", 1))
        [event] = peer.tell(done(request, FinishReason.CANCELLED))
        assert event["type"] == "generationStopped"
        assert event["payload"]["output"] == "so far"
        assert event["payload"].items() >= IDS.items()

    def test_others_go_on(self, peer: Peer) -> None:
        requests = [generation(peer, requestId=number) for number in range(2)]
        peer.say({"action": "stop_generation", "requestId": 1})
        assert request_of(peer) == CancelRequest(requests[1].request_id)

    @pytest.mark.parametrize(
        ("ids", "code"),
        [
            ({"requestId": "other"}, "response_not_found"),
            ({"messageId": "7"}, "response_not_found"),
            ({}, "invalid_parameter"),
            ({"chatId": "c"}, "invalid_parameter"),
        ],
    )
    def test_what_does_not_run_cannot_be_stopped(
        self, peer: Peer, ids: dict[str, Any], code: str
    ) -> None:
        generation(peer)
        assert refused(peer.say({"action": "stop_generation", **ids}), **ids) == code

    def test_what_has_ended_cannot_be_stopped(self, peer: Peer) -> None:
        peer.tell(done(generation(peer)))
        answers = peer.say({"action": "stop_generation", "requestId": "r1"})
        assert refused(answers) == "response_not_found"


class TestHistory:
    def test_a_prompt_is_a_turn_of_the_user(self, peer: Peer) -> None:
        request = peer.ask({"action": "generate", "prompt": "Hi", "model": "m", "requestId": 1})
        assert (request.messages, request.model) == ((Message("user", "Hi"),), "m")

    def test_the_oldest_turns_may_be_dropped(self, peer: Peer) -> None:
        assert peer.ask(HELLO).truncate

    def test_the_system_prompt_goes_first(self, peer: Peer) -> None:
        turns = [
            {"role": "user", "content": "a"},
            {"role": "system", "content": "Be brief."},
            {"role": "assistant", "content": "b"},
        ]
        settings = {"system_prompt": "Be kind."}
        request = peer.ask(HELLO | {"messages": turns, "settings": settings})
        assert request.messages == (
            Message("system", "Be kind.\n\nBe brief."),
            Message("user", "a"),
            Message("assistant", "b"),
        )

    def test_the_same_system_prompt_is_said_once(self, peer: Peer) -> None:
        turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "a"}]
        request = peer.ask(HELLO | {"messages": turns, "settings": {"system_prompt": "Be kind."}})
        assert request.messages == (Message("system", "Be kind."), Message("user", "a"))


class TestSettings:
    ALL: ClassVar[dict[str, Any]] = {
        "temperature": 0.5,
        "top_k": 0,
        "top_p": 0.9,
        "min_p": 0.1,
        "max_new_tokens": 9,
        "repetition_penalty": 1.1,
        "do_sample": True,
        "stop": ["x"],
        "seed": 3,
        "system_prompt": "Be kind.",
    }

    def test_all_of_them_reach_the_request(self, peer: Peer) -> None:
        request = peer.ask(HELLO | {"settings": self.ALL})
        assert request.sampling == SamplingParams(
            temperature=0.5, top_k=0, top_p=0.9, min_p=0.1, repeat_penalty=1.1, seed=3
        )
        assert (request.max_tokens, request.stop) == (9, ("x",))

    @pytest.mark.parametrize("action", ["set_params", "update_settings"])
    def test_they_hold_for_the_connection(self, peer: Peer, action: str) -> None:
        [answer] = peer.say({"action": action, "settings": self.ALL})
        assert answer == succeeded(action, {"settings": self.ALL})
        assert peer.ask(HELLO).sampling.seed == 3
        assert fresh().ask(HELLO).sampling.seed is None

    def test_they_add_up_and_null_takes_one_back(self, peer: Peer) -> None:
        peer.say({"action": "set_params", "settings": {"top_k": 5, "seed": 3}})
        peer.say({"action": "set_params", "settings": {"top_k": None, "top_p": 0.5}})
        [answer] = peer.say({"action": "get_params"})
        nothing = dict.fromkeys(self.ALL)
        assert answer["payload"]["settings"] == nothing | {"seed": 3, "top_p": 0.5}

    def test_those_of_a_request_go_before_them(self, peer: Peer) -> None:
        peer.say({"action": "set_params", "settings": {"top_k": 5, "seed": 3}})
        sampling = peer.ask(HELLO | {"settings": {"seed": 4}}).sampling
        assert (sampling.top_k, sampling.seed) == (5, 4)
        assert peer.ask(HELLO).sampling.seed == 3

    def test_not_sampling_is_a_temperature_of_zero(self, peer: Peer) -> None:
        settings = {"do_sample": False, "temperature": 0.7}
        assert peer.ask(HELLO | {"settings": settings}).sampling.temperature == 0.0

    @pytest.mark.parametrize(
        "settings",
        [
            {"temperature": -1},
            {"top_p": 2},
            {"top_k": -1},
            {"seed": -1},
            {"max_new_tokens": -1},
            {"repetition_penalty": 0},
            {"stop": [""]},
            {"stop": ["x"] * 17},
            {"system_prompt": 5},
            {"do_sample": "no"},
        ],
    )
    def test_wrong_ones_change_nothing(self, peer: Peer, settings: dict[str, Any]) -> None:
        answers = peer.say({"action": "set_params", "settings": {"top_k": 5} | settings})
        assert refused(answers) == "invalid_parameter"
        assert peer.ask(HELLO).sampling.top_k is None

    def test_the_error_names_the_setting_by_its_name_on_the_wire(self, peer: Peer) -> None:
        [answer] = peer.say({"action": "set_params", "settings": {"repetition_penalty": 0}})
        assert "settings.repetition_penalty" in answer["error"]


class TestModels:
    def load(self, peer: Peer, **fields: Any) -> LoadModel:
        message = {"action": "load_model", "modelPath": "m", "requestId": "r", "loadId": "l"}
        assert peer.say(message | fields) == []
        request = request_of(peer)
        assert isinstance(request, LoadModel)
        return request

    def test_a_load_reports_progress_and_then_the_model(self, peer: Peer) -> None:
        request = self.load(peer)
        ids = {"requestId": "r", "loadId": "l"}
        heard = peer.tell(
            ModelStateChanged("m", ModelState.LOADING),
            ModelStateChanged("other", ModelState.LOADING, 0.1),
            ModelStateChanged("m", ModelState.LOADING, 0.25),
            ModelStateChanged("m", ModelState.READY, 1.0),
            ModelsListed(request.request_id, (READY,)),
        )
        progress = [
            ("initiate", 0.0, None),
            ("progress", 25.0, None),
            ("done", 100.0, 1000),
        ]
        expected: list[dict[str, Any]] = [
            {
                "type": "modelWorkerLoadingProgress",
                "payload": {
                    "status": status,
                    "file": "m",
                    "progress": percent,
                    "loaded": size,
                    "total": size,
                    **ids,
                },
            }
            for status, percent, size in progress
        ]
        ready = {"backend": "gguf", "modelPath": "m", "executionProvider": "cpu"}
        expected.append({"type": "workerReady", "payload": ready | ids})
        expected.append(succeeded("load_model", {"isReady": True, **ready}, **ids))
        assert heard == expected
        assert peer.tell(ModelStateChanged("m", ModelState.LOADING)) == []

    def test_a_file_in_the_models_folder_is_named_by_its_name(self, peer: Peer) -> None:
        assert self.load(peer, modelPath="file.gguf").model == "file"

    def test_a_failed_load_ends_with_an_error(self, peer: Peer) -> None:
        request = self.load(peer)
        error = BackendError("gguf_invalid", "no GGUF")
        heard = peer.tell(
            ModelStateChanged("m", ModelState.LOADING), Failed(request.request_id, error)
        )
        assert [event["payload"]["status"] for event in heard[:2]] == ["initiate", "error"]
        assert heard[1]["payload"]["code"] == "gguf_invalid"
        assert refused(heard[2:], requestId="r", loadId="l") == "gguf_invalid"

    def test_an_unknown_model_gets_an_error_reply_only(self, peer: Peer) -> None:
        request = self.load(peer)
        error = RequestError("model_not_found", "there is none")
        assert refused(peer.tell(Failed(request.request_id, error))) == "model_not_found"

    def test_a_load_needs_a_model(self, peer: Peer) -> None:
        assert refused(peer.say({"action": "load_model"})) == "invalid_parameter"

    def test_an_unload_shows_the_model(self, peer: Peer) -> None:
        peer.say({"action": "unload_model", "model": "m", "requestId": 1})
        request = request_of(peer)
        assert isinstance(request, UnloadModel)
        status = ModelStatus("m", "gguf", ModelState.UNLOADED)
        [answer] = peer.tell(ModelsListed(request.request_id, (status,)))
        payload = {"isReady": False, "backend": "gguf", "modelPath": "m"}
        assert answer == succeeded("unload_model", payload, requestId=1)

    def test_without_a_name_the_default_model_is_unloaded(self, peer: Peer) -> None:
        peer.say({"action": "unload_model"})
        listing = request_of(peer)
        assert isinstance(listing, ListModels)
        assert peer.tell(ModelsListed(listing.request_id, (SPARE, READY))) == []
        request = request_of(peer)
        assert isinstance(request, UnloadModel)
        assert request.model == "m"

    def test_with_nothing_loaded_there_is_nothing_to_unload(self, peer: Peer) -> None:
        peer.say({"action": "unload_model"})
        listing = request_of(peer)
        answers = peer.tell(ModelsListed(listing.request_id, (SPARE,)))
        assert refused(answers) == "model_not_found"

    @pytest.mark.parametrize("action", ["load_model", "unload_model"])
    def test_changing_models_needs_the_scope_manage(self, action: str) -> None:
        page = fresh(Principal("https://page.example"))
        assert refused(page.say({"action": action, "modelPath": "m"})) == "scope_required"
        assert page.requests() == []

    @pytest.mark.parametrize(
        ("fields", "models", "payload"),
        [
            ({}, (SPARE, READY), (True, "gguf", "m")),
            ({"model": "spare"}, (SPARE, READY), (False, "gguf", "spare")),
            ({}, (SPARE,), (False, None, None)),
        ],
    )
    def test_the_state_of_a_model(
        self, peer: Peer, fields: Any, models: Any, payload: tuple[Any, ...]
    ) -> None:
        peer.say({"action": "get_model_state", **fields})
        [answer] = peer.tell(ModelsListed(request_of(peer).request_id, models))
        names = ("isReady", "backend", "modelPath")
        assert answer["payload"] == dict(zip(names, payload, strict=True))

    def test_an_unknown_model_has_no_state(self, peer: Peer) -> None:
        peer.say({"action": "get_model_state", "model": "no"})
        answers = peer.tell(ModelsListed(request_of(peer).request_id, (READY,)))
        assert refused(answers) == "model_not_found"

    @pytest.mark.parametrize(
        ("action", "ids"),
        [("list_loaded_models", ["m"]), ("get_registered_models", ["spare", "m"])],
    )
    def test_models_are_listed(self, peer: Peer, action: str, ids: list[str]) -> None:
        peer.say({"action": action})
        [answer] = peer.tell(ModelsListed(request_of(peer).request_id, (SPARE, READY)))
        assert [model["id"] for model in answer["payload"]["models"]] == ids

    def test_news_of_models_that_nobody_asked_for_are_kept(self, peer: Peer) -> None:
        change = ModelStateChanged("m", ModelState.LOADING)
        assert peer.tell(change) == []


class TestSystem:
    def test_the_system_is_shown(self, peer: Peer) -> None:
        peer.say({"action": "get_system_info", **IDS})
        request = request_of(peer)
        assert isinstance(request, DescribeSystem)
        [answer] = peer.tell(SystemDescribed(request.request_id, SYSTEM))
        assert answer == succeeded("get_system_info", SYSTEM, **IDS)

    def test_resources_are_the_part_that_models_use(self, peer: Peer) -> None:
        peer.say({"action": "query_resources"})
        [answer] = peer.tell(SystemDescribed(request_of(peer).request_id, SYSTEM))
        assert answer["payload"] == {"cpu": {"cores": 4}, "memory": {"total": 5}, "gpus": []}


class TestOneMessage:
    """What `sendNativeMessage` hears: the first frame, and no other."""

    ALONE: ClassVar = {"action": "generate", "prompt": "Hi"}

    def test_a_first_message_without_ids_is_answered_whole(self) -> None:
        peer = fresh()
        request = peer.ask(self.ALONE)
        assert peer.accept(request) == []
        assert peer.tell(started(request), delta(request, "Hello", 1)) == []
        answer = {"output": "Hello", "generatedText": "Hello", "tps": 0.67, "numTokens": 1}
        assert peer.tell(done(request)) == [succeeded("generate", answer)]

    def test_its_failure_is_the_reply(self) -> None:
        peer = fresh()
        request = peer.ask(self.ALONE)
        peer.accept(request)
        error = BackendError("decode_failed", "it broke")
        answers = peer.tell(delta(request, "Hel", 1), Failed(request.request_id, error))
        assert refused(answers) == "decode_failed"

    def test_a_load_has_no_events_either(self) -> None:
        peer = fresh()
        peer.say({"action": "load_model", "modelPath": "m"})
        request = request_of(peer)
        heard = peer.tell(
            ModelStateChanged("m", ModelState.LOADING), ModelsListed(request.request_id, (READY,))
        )
        assert [answer["status"] for answer in heard] == ["success"]

    def test_ids_or_an_earlier_message_make_it_a_conversation(self, peer: Peer) -> None:
        for conversation, message in ((fresh(), HELLO), (peer, self.ALONE)):
            request = conversation.ask(message)
            assert len(conversation.accept(request)) == 1

    def test_any_generation_may_ask_for_the_whole(self, peer: Peer) -> None:
        request = peer.ask(HELLO | {"stream": False})
        assert peer.accept(request) == []
        [answer] = peer.tell(delta(request, "Hello", 1), done(request))
        assert answer["payload"]["output"] == "Hello"
        assert answer["requestId"] == "r1"
