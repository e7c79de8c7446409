"""`GgufEngine` over a real libllama: many requests, one queue of events, one wake-up at a time."""

from __future__ import annotations

import json
import math
import selectors
import socket
from typing import TYPE_CHECKING, Any

import pytest
from tabagent_engine import EngineError, GgufEngine

from tests.gguf_fixtures import CONTROL_TOKENS, EOS, KNOWN_ANSWER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tabagent_engine.types import Event, StartedEvent

    from tests.gguf_fixtures import ChainModel

CREDIT = 1_000_000


class Reader:
    """Reads one engine's events with a selector, as an event loop would."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.wakeups, engine_end = socket.socketpair()
        with engine_end:
            # One thread: on a busy machine, threads that wait for each other crawl.
            options = {"threads": 1, **options}
            self.engine = GgufEngine.open(path, wake_fd=engine_end.fileno(), **options)
        self.wakeups.setblocking(False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.wakeups, selectors.EVENT_READ)
        self.events: dict[int, list[Event]] = {}

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.close()
        self.selector.close()
        self.wakeups.close()

    def step(self) -> None:
        """Wait for one wake-up and take what there is."""
        assert self.selector.select(timeout=20), "the engine fell silent"
        assert self.wakeups.recv(16) == b"\x01"
        for event in self.engine.drain():
            self.events.setdefault(event[1], []).append(event)

    def until_ended(self, *request_ids: int) -> None:
        while not all(self.ended(request_id) for request_id in request_ids):
            self.step()

    def until_started(self, request_id: int) -> None:
        while not self.text(request_id):
            self.step()

    def ended(self, request_id: int) -> bool:
        events = self.events.get(request_id, [])
        return bool(events) and events[-1][0] in {"finished", "failed"}

    def last(self, request_id: int) -> Event:
        return self.events[request_id][-1]

    def started(self, request_id: int) -> StartedEvent:
        return next(event for event in self.events[request_id] if event[0] == "started")

    def text(self, request_id: int) -> str:
        return "".join(event[2] for event in self.events.get(request_id, ()) if event[0] == "delta")

    def tokens(self, request_id: int) -> list[int]:
        events = self.events.get(request_id, ())
        return [token for event in events if event[0] == "delta" for token in event[3]]


@pytest.fixture
def reader(chain_model: ChainModel) -> Iterator[Reader]:
    with Reader(chain_model.path) as reader:
        yield reader


@pytest.fixture
def long_reader(long_chain_model: ChainModel) -> Iterator[Reader]:
    with Reader(long_chain_model.path) as reader:
        yield reader


def test_the_known_answer_comes_out_exactly(reader: Reader, chain_model: ChainModel) -> None:
    reader.engine.submit(7, "What flows?", credit=CREDIT, temperature=0)
    reader.until_ended(7)
    assert reader.text(7) == KNOWN_ANSWER
    assert [*reader.tokens(7), EOS] == chain_model.tokens
    finished = reader.last(7)
    assert finished[0] == "finished"
    assert finished[2] == "stop"
    assert finished[3] == len(reader.engine.tokenize("What flows?")) == reader.started(7)[2]
    assert finished[5] == len(chain_model.tokens)


def test_four_requests_at_once_get_their_own_exact_texts(long_reader: Reader) -> None:
    counts = {1: 40, 2: 90, 3: 150, 4: 200}
    for request_id, count in counts.items():
        prompt = f"Count, number {request_id}!" + "x" * request_id
        long_reader.engine.submit(
            request_id, prompt, credit=CREDIT, max_tokens=count, temperature=0
        )
    long_reader.until_ended(*counts)
    for request_id, count in counts.items():
        assert long_reader.text(request_id) == "".join(f" {number}" for number in range(count))
        assert long_reader.last(request_id)[2] == "length"


def test_deltas_of_concurrent_requests_are_interleaved(long_reader: Reader) -> None:
    for request_id in (1, 2):
        long_reader.engine.submit(request_id, "Count!", credit=CREDIT, temperature=0)
    long_reader.until_started(1)
    long_reader.until_started(2)
    assert not long_reader.ended(1)
    assert not long_reader.ended(2)
    long_reader.until_ended(1, 2)


def test_more_requests_than_slots_wait_their_turn(long_chain_model: ChainModel) -> None:
    with Reader(long_chain_model.path, parallel=1) as reader:
        for request_id in (1, 2):
            # Little credit keeps the first one in its slot until the second one has come.
            reader.engine.submit(request_id, "Count!", credit=5, max_tokens=30, temperature=0)
        while 2 not in reader.events:
            reader.step()
        for request_id in (1, 2):
            reader.engine.grant(request_id, CREDIT)
        reader.until_ended(1, 2)
        assert [event[0] for event in reader.events[2]][:2] == ["queued", "started"]
        assert reader.text(1) == reader.text(2) == "".join(f" {number}" for number in range(30))


def test_a_cancelled_request_ends_and_another_goes_on(long_reader: Reader) -> None:
    long_reader.engine.submit(1, "Count!", credit=5, temperature=0)
    long_reader.engine.submit(2, "Count!", credit=CREDIT, temperature=0)
    long_reader.until_started(1)
    long_reader.engine.cancel(1)
    long_reader.until_ended(1, 2)
    assert long_reader.last(1)[2] == "cancelled"
    assert long_reader.last(2)[2] == "stop"
    assert long_reader.text(2).endswith(" 599")


def test_without_credit_a_request_pauses_until_it_is_granted_more(long_reader: Reader) -> None:
    long_reader.engine.submit(1, "Count!", credit=5, temperature=0)
    long_reader.engine.submit(2, "Count!", credit=CREDIT, temperature=0)
    long_reader.until_ended(2)
    assert long_reader.text(1) == " 0 1 2 3 4"
    assert not long_reader.ended(1)
    long_reader.engine.grant(1, CREDIT)
    long_reader.until_ended(1)
    assert long_reader.text(1) == long_reader.text(2)


def test_without_credit_for_too_long_a_request_is_cancelled(long_chain_model: ChainModel) -> None:
    with Reader(long_chain_model.path, stall_timeout=0.05) as reader:
        reader.engine.submit(1, "Count!", credit=5, temperature=0)
        reader.until_ended(1)
        assert reader.text(1) == " 0 1 2 3 4"
        assert reader.last(1)[2] == "cancelled"


def test_no_second_wake_up_comes_before_the_first_is_answered(reader: Reader) -> None:
    reader.engine.submit(1, "Hello!", credit=CREDIT, temperature=0)
    assert reader.selector.select(timeout=20)
    reader.engine.close()
    assert reader.wakeups.recv(16) == b"\x01"
    assert reader.engine.drain()


def test_messages_are_rendered_by_the_models_template(reader: Reader) -> None:
    messages = json.dumps([{"role": "user", "content": "What flows?"}])
    assert reader.engine.render_chat(messages) == "<|user|>What flows?<|end|><|assistant|>"
    reader.engine.submit(1, None, messages=messages, credit=CREDIT, temperature=0)
    reader.until_ended(1)
    assert reader.text(1) == KNOWN_ANSWER


def test_a_prompt_may_be_token_ids(reader: Reader) -> None:
    tokens = reader.engine.tokenize("What flows?")
    reader.engine.submit(1, tokens, credit=CREDIT, temperature=0)
    reader.until_ended(1)
    assert reader.text(1) == KNOWN_ANSWER
    assert reader.started(1)[2] == len(tokens)


def test_a_stop_string_ends_the_answer_before_itself(reader: Reader) -> None:
    reader.engine.submit(1, "What flows?", credit=CREDIT, temperature=0, stop=["water: c"])
    reader.until_ended(1)
    assert reader.text(1) == "Tokens flow like "
    assert reader.last(1)[2] == "stop"


def test_every_delta_is_whole_characters(reader: Reader) -> None:
    reader.engine.submit(1, "What flows?", credit=CREDIT, temperature=0)
    reader.until_ended(1)
    assert "�" not in reader.text(1)
    for character in "é€😀":
        deltas = [event[2] for event in reader.events[1] if event[0] == "delta"]
        assert sum(character in delta for delta in deltas) == 1


def test_log_probabilities_name_the_produced_token_and_the_best(reader: Reader) -> None:
    reader.engine.submit(1, "Hello!", credit=CREDIT, temperature=0, max_tokens=3, logprobs=2)
    reader.until_ended(1)
    entries = [
        entry for event in reader.events[1] if event[0] == "delta" for entry in event[4] or ()
    ]
    assert [chosen[0] for chosen, _ in entries] == reader.tokens(1)
    assert b"".join(chosen[1] for chosen, _ in entries).decode() == reader.text(1)
    for chosen, top in entries:
        assert top[0] == chosen
        assert len(top) == 2
        assert top[1][2] < chosen[2] <= 0


@pytest.mark.parametrize("max_tokens", [None, 2**16])
def test_whole_distributions_are_for_short_answers(reader: Reader, max_tokens: int | None) -> None:
    with pytest.raises(EngineError) as refusal:
        reader.engine.submit(1, "Hello!", credit=CREDIT, logprobs=21, max_tokens=max_tokens)
    assert (refusal.value.code, refusal.value.param) == ("invalid_parameter", "logprobs")


def test_without_asking_there_are_no_log_probabilities(reader: Reader) -> None:
    reader.engine.submit(1, "Hello!", credit=CREDIT, temperature=0, max_tokens=3)
    reader.until_ended(1)
    assert all(event[4] is None for event in reader.events[1] if event[0] == "delta")


def test_a_bias_bans_a_token(reader: Reader, chain_model: ChainModel) -> None:
    first = chain_model.tokens[0]
    reader.engine.submit(
        1, "Hello!", credit=CREDIT, temperature=0, max_tokens=1, logit_bias={first: -math.inf}
    )
    reader.until_ended(1)
    assert reader.tokens(1) != [first]


def test_a_seed_repeats_an_answer_and_is_reported(tiny_model: Path) -> None:
    with Reader(tiny_model) as reader:
        for request_id, seed in ((1, 42), (2, 42), (3, 43)):
            reader.engine.submit(
                request_id, "Hello!", credit=CREDIT, max_tokens=40, temperature=1.5, seed=seed
            )
            reader.until_ended(request_id)
        seeds = [reader.started(request_id)[4] for request_id in (1, 2, 3)]
        assert reader.tokens(1) == reader.tokens(2) != reader.tokens(3)
        assert seeds == [42, 42, 43]


def test_text_survives_tokens_and_back(reader: Reader) -> None:
    for text in ("Hello, world!", "é€😀", "two  spaces", ""):
        assert reader.engine.detokenize(reader.engine.tokenize(text, False)).strip() == text.strip()


def test_special_tokens_in_a_text_are_recognised(reader: Reader) -> None:
    tokens = reader.engine.tokenize("".join(CONTROL_TOKENS), False)
    assert len(tokens) == len(CONTROL_TOKENS)


def test_the_model_describes_itself(reader: Reader) -> None:
    info = reader.engine.info
    assert info["architecture"] == "llama"
    assert info["name"] == "chain"
    assert info["context_length"] == info["trained_context"] == 2048
    assert info["parallel"] == 4
    assert info["threads"] == 1
    assert info["has_chat_template"]
    assert info["runtime"]


def test_a_prompt_longer_than_the_context_fails_alone(chain_model: ChainModel) -> None:
    with Reader(chain_model.path, ctx_size=64) as reader:
        reader.engine.submit(1, "x" * 200, credit=CREDIT, temperature=0)
        reader.engine.submit(2, "x", credit=CREDIT, temperature=0)
        reader.until_ended(1, 2)
        assert reader.last(1)[0] == "failed"
        assert reader.last(1)[2] == "context_length_exceeded"
        assert reader.text(2) == KNOWN_ANSWER


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1.0),
        ("temperature", math.nan),
        ("top_p", 2.0),
        ("min_p", math.inf),
        ("repeat_penalty", 0.0),
        ("logit_bias", {10**6: 1.0}),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(reader: Reader, field: str, value: Any) -> None:
    fields: dict[str, Any] = {field: value}
    with pytest.raises(EngineError) as refusal:
        reader.engine.submit(1, "Hello!", credit=CREDIT, **fields)
    assert (refusal.value.code, refusal.value.param) == ("invalid_parameter", field)


def test_messages_that_are_no_json_are_refused(reader: Reader) -> None:
    with pytest.raises(EngineError) as refusal:
        reader.engine.submit(1, None, messages="{", credit=CREDIT)
    assert (refusal.value.code, refusal.value.param) == ("invalid_parameter", "messages")


@pytest.mark.parametrize("messages", ['"text"', "[1]", '[{"role": "user"}]'])
def test_messages_that_the_template_cannot_render_fail(reader: Reader, messages: str) -> None:
    reader.engine.submit(1, None, messages=messages, credit=CREDIT)
    reader.until_ended(1)
    failed = reader.last(1)
    assert failed[0] == "failed"
    assert (failed[2], failed[4]) == ("invalid_parameter", "messages")


@pytest.mark.parametrize(("prompt", "messages"), [(None, None), ("text", "[]")])
def test_prompt_and_messages_exclude_each_other(
    reader: Reader, prompt: str | None, messages: str | None
) -> None:
    with pytest.raises(EngineError) as refusal:
        reader.engine.submit(1, prompt, messages=messages, credit=CREDIT)
    assert refusal.value.code == "invalid_parameter"


def test_closing_ends_every_request_and_refuses_new_ones(long_reader: Reader) -> None:
    for request_id in (1, 2):
        long_reader.engine.submit(request_id, "Count!", credit=CREDIT, temperature=0)
    long_reader.until_started(1)
    long_reader.engine.close()
    for event in long_reader.engine.drain():
        long_reader.events.setdefault(event[1], []).append(event)
    assert long_reader.last(1)[2] == long_reader.last(2)[2] == "cancelled"
    long_reader.engine.close()
    with pytest.raises(EngineError) as refusal:
        long_reader.engine.submit(3, "Count!", credit=CREDIT)
    assert refusal.value.code == "shutting_down"


def test_a_number_that_is_no_socket_is_refused(chain_model: ChainModel, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        for number in (-1, 2**40, file.fileno()):
            with pytest.raises(EngineError) as refusal:
                GgufEngine.open(chain_model.path, wake_fd=number)
            assert refusal.value.param == "wake_fd"


def test_engines_of_two_models_run_side_by_side(
    chain_model: ChainModel, long_chain_model: ChainModel
) -> None:
    with Reader(chain_model.path) as first, Reader(long_chain_model.path) as second:
        first.engine.submit(1, "Hello!", credit=CREDIT, temperature=0)
        second.engine.submit(1, "Hello!", credit=CREDIT, temperature=0, max_tokens=20)
        first.until_ended(1)
        second.until_ended(1)
        assert first.text(1) == KNOWN_ANSWER
        assert second.text(1) == "".join(f" {number}" for number in range(20))
