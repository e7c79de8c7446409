"""What every backend must do, as tests to inherit.

class TestMyBackend(BackendContract):
    @pytest.fixture
    def subject(self) -> BackendSubject:
        return BackendSubject(MyBackend, "my:model", "a prompt with a long answer")
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from msgspec import Struct, structs

from tabagent.core.backend import Backend, BackendConfig, ModelSpec
from tabagent.core.errors import RequestError, TabagentError
from tabagent.core.events import (
    TERMINAL_EVENTS,
    Event,
    Failed,
    Finished,
    FinishReason,
    RequestEvent,
    Started,
    TextDelta,
)
from tabagent.core.requests import GenerateRequest, Message, SamplingParams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

__all__ = ["BackendContract", "BackendSubject", "Recording"]

MODEL = "subject"
CONTEXT = 256
LONG = 24
"""Tokens that the subject's answer must at least have."""


class BackendSubject(Struct, frozen=True):
    """A backend to be held to the contract.

    Attributes:
        backend: Its class.
        source: A model that it runs.
        prompt: Text whose answer has more than 24 and less than 128 tokens and ends by itself.
        config: Settings it needs, for example a runtime; size and width are the suite's.
    """

    backend: type[Backend]
    source: str
    prompt: str
    config: BackendConfig = BackendConfig()


class Recording:
    """A sink that keeps the events of one request."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.events: list[Event] = []
        self._arrived = anyio.Event()

    def __call__(self, events: Sequence[Event]) -> None:
        """Take events; the backend's sink."""
        # Judged by `check_laws`: an error raised here would end up in the loop, not in the test.
        self.events += events
        self._arrived.set()
        self._arrived = anyio.Event()

    @property
    def ended(self) -> bool:
        """Whether the terminal event has come."""
        return bool(self.events) and isinstance(self.events[-1], TERMINAL_EVENTS)

    @property
    def deltas(self) -> list[TextDelta]:
        """All text deltas."""
        return [event for event in self.events if isinstance(event, TextDelta)]

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(delta.text for delta in self.deltas)

    @property
    def tokens(self) -> list[int]:
        """The tokens of the answer so far."""
        return [token for delta in self.deltas for token in delta.tokens]

    @property
    def finished(self) -> Finished:
        """The successful end."""
        assert isinstance(self.events[-1], Finished), self.events[-1]
        return self.events[-1]

    @property
    def error(self) -> TabagentError:
        """The cause of the failure."""
        assert isinstance(self.events[-1], Failed), self.events[-1]
        return self.events[-1].error

    def check_laws(self) -> None:
        """Assert the laws of `tabagent.core.events`, once nothing more can come."""
        assert self.ended, f"the last event is no terminal one: {self.events[-1:]}"
        for event in self.events[:-1]:
            assert not isinstance(event, TERMINAL_EVENTS), f"something came after {event}"
        for event in self.events:
            assert isinstance(event, RequestEvent)
            assert event.request_id == self.request_id
        for delta in self.deltas:
            assert len(delta.logprobs) in {0, len(delta.tokens)}
            delta.text.encode()  # whole characters only

    async def until(self, condition: Callable[[Recording], bool]) -> None:
        """Wait until `condition` holds of what has come."""
        with anyio.fail_after(30):
            while not condition(self):
                await self._arrived.wait()

    async def end(self) -> None:
        """Wait for the terminal event."""
        await self.until(lambda recording: recording.ended)


class Bench:
    """A loaded backend and short ways to ask it."""

    def __init__(self, backend: Backend, subject: BackendSubject) -> None:
        self.backend = backend
        self.subject = subject
        self.recordings: list[Recording] = []

    def start(self, *, credit: int = CONTEXT, **fields: Any) -> Recording:
        """Submit a request for the subject's prompt, greedy unless `fields` say otherwise."""
        defaults: dict[str, Any] = {"sampling": SamplingParams(temperature=0.0)}
        if not fields.keys() & {"prompt", "messages"}:
            defaults["prompt"] = self.subject.prompt
        request_id = f"request-{len(self.recordings)}"
        request = GenerateRequest(request_id=request_id, **{**defaults, **fields})
        recording = Recording(request_id)
        self.recordings.append(recording)
        try:
            self.backend.submit(MODEL, request, credit, recording)
        except TabagentError as error:
            recording([Failed(request_id, error)])
        return recording

    async def ask(self, *, credit: int = CONTEXT, **fields: Any) -> Recording:
        """Submit a request and wait for its end."""
        recording = self.start(credit=credit, **fields)
        await recording.end()
        return recording


class BackendContract:
    """Inherit it and override the fixture `subject`."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def subject(self) -> BackendSubject:
        """The backend to test."""
        raise NotImplementedError

    @pytest.fixture
    async def bench(self, subject: BackendSubject) -> AsyncIterator[Bench]:
        """The subject, loaded; two requests run together."""
        async with opened(subject, parallel=2) as bench:
            yield bench

    async def test_claims_its_source_and_nothing_else(self, subject: BackendSubject) -> None:
        assert subject.backend.claims(subject.source)
        assert not subject.backend.claims("")

    async def test_health_says_that_it_works(self, subject: BackendSubject) -> None:
        health = await anyio.to_thread.run_sync(subject.backend.health, subject.config)
        assert (health.name, health.installed, health.works) == (subject.backend.name, True, True)

    async def test_loading_reports_the_context_and_the_width(self, subject: BackendSubject) -> None:
        backend = subject.backend(_config(subject, parallel=2))
        info = await backend.load(ModelSpec(MODEL, subject.source, backend.name), _ignore)
        assert (info.context_length, info.parallel) == (CONTEXT, 2)
        await backend.aclose()

    async def test_an_answer_starts_streams_and_stops(self, bench: Bench) -> None:
        answer = await bench.ask()
        started = [event for event in answer.events if isinstance(event, Started)]
        assert [event.model for event in started] == [MODEL]
        assert answer.events.index(started[0]) < answer.events.index(answer.deltas[0])
        assert answer.finished.reason is FinishReason.STOP
        assert LONG < len(answer.tokens) < CONTEXT // 2
        assert answer.text

    async def test_usage_counts_the_tokens_of_prompt_and_answer(self, bench: Bench) -> None:
        answer = await bench.ask(max_tokens=5)
        started = next(event for event in answer.events if isinstance(event, Started))
        assert answer.finished.usage.prompt_tokens == started.prompt_tokens > 0
        assert answer.finished.usage.completion_tokens == len(answer.tokens) == 5

    async def test_messages_are_answered_too(self, bench: Bench) -> None:
        answer = await bench.ask(messages=(Message("user", bench.subject.prompt),), max_tokens=8)
        assert answer.text
        assert answer.finished.reason is FinishReason.LENGTH

    async def test_token_ids_are_answered_too(self, bench: Bench) -> None:
        answer = await bench.ask(prompt=(5, 6, 7), max_tokens=2)
        assert answer.finished.usage.prompt_tokens == 3

    async def test_max_tokens_ends_with_length(self, bench: Bench) -> None:
        answer = await bench.ask(max_tokens=7)
        assert len(answer.tokens) == 7
        assert answer.finished.reason is FinishReason.LENGTH

    async def test_max_tokens_zero_reads_the_prompt_only(self, bench: Bench) -> None:
        answer = await bench.ask(max_tokens=0)
        assert answer.deltas == []
        assert answer.finished.reason is FinishReason.LENGTH

    async def test_an_endless_answer_ends_with_the_context(self, bench: Bench) -> None:
        answer = await bench.ask(sampling=SamplingParams(temperature=0.0, ignore_eos=True))
        usage = answer.finished.usage
        assert answer.finished.reason is FinishReason.LENGTH
        assert usage.total_tokens == CONTEXT

    async def test_a_stop_string_ends_the_answer_before_it(self, bench: Bench) -> None:
        whole = (await bench.ask()).text
        stop = whole[len(whole) // 2 :][:6]
        answer = await bench.ask(stop=("never in there", stop))
        assert answer.text == whole[: whole.index(stop)]
        assert answer.finished.reason is FinishReason.STOP

    async def test_a_seed_is_reported_and_repeats_the_answer(self, bench: Bench) -> None:
        sampling = SamplingParams(temperature=2.0, top_k=0, top_p=1.0, min_p=0.0, seed=11)
        first = await bench.ask(sampling=sampling, max_tokens=16)
        again = await bench.ask(sampling=sampling, max_tokens=16)
        assert first.tokens == again.tokens
        assert first.text == again.text
        assert any(isinstance(event, Started) and event.seed == 11 for event in first.events)

    async def test_logprobs_come_with_each_token_when_asked_for(self, bench: Bench) -> None:
        plain = await bench.ask(max_tokens=4)
        assert all(not delta.logprobs for delta in plain.deltas)
        answer = await bench.ask(max_tokens=4, logprobs=1)
        entries = [entry for delta in answer.deltas for entry in delta.logprobs]
        assert [entry.chosen.token for entry in entries] == answer.tokens
        assert all(len(entry.top) == 1 and entry.chosen.logprob <= 0.0 for entry in entries)

    async def test_a_prompt_as_long_as_the_context_is_refused(self, bench: Bench) -> None:
        answer = await bench.ask(prompt="too long " * CONTEXT)
        assert isinstance(answer.error, RequestError)
        assert answer.error.code == "context_length_exceeded"

    async def test_a_long_history_is_shortened_when_asked(self, bench: Bench) -> None:
        turn = (Message("user", "too long " * 20), Message("assistant", "yes"))
        messages = (*turn * 20, Message("user", bench.subject.prompt))
        assert (await bench.ask(messages=messages)).error.code == "context_length_exceeded"
        answer = await bench.ask(messages=messages, truncate=True, max_tokens=4)
        assert 0 < answer.finished.usage.prompt_tokens <= CONTEXT - 4

    async def test_only_credited_tokens_are_produced(self, bench: Bench) -> None:
        slow = bench.start(credit=4)
        await slow.until(lambda recording: len(recording.tokens) == 4)
        await bench.ask()  # gives the slow one every opportunity
        assert len(slow.tokens) == 4
        bench.backend.grant(slow.request_id, 3)
        await slow.until(lambda recording: len(recording.tokens) == 7)
        await bench.ask()
        assert len(slow.tokens) == 7
        bench.backend.grant(slow.request_id, CONTEXT)
        await slow.end()
        assert slow.finished.reason is FinishReason.STOP

    async def test_a_request_that_waits_for_a_place_can_be_cancelled(self, bench: Bench) -> None:
        running = [bench.start(credit=1), bench.start(credit=1)]
        for recording in running:
            await recording.until(lambda recording: len(recording.tokens) == 1)
        waiting = bench.start()
        bench.backend.cancel(waiting.request_id)
        await waiting.end()
        assert waiting.finished.reason is FinishReason.CANCELLED
        assert waiting.deltas == []
        assert not any(recording.ended for recording in running)

    async def test_a_waiting_request_runs_when_a_place_is_free(self, bench: Bench) -> None:
        running = [bench.start(credit=1), bench.start(credit=1)]
        waiting = bench.start()
        bench.backend.cancel(running[0].request_id)
        await waiting.end()
        assert waiting.finished.reason is FinishReason.STOP

    async def test_a_cancelled_answer_ends_as_cancelled(self, bench: Bench) -> None:
        answer = bench.start(credit=2)
        await answer.until(lambda recording: len(recording.tokens) == 2)
        bench.backend.cancel(answer.request_id)
        await answer.end()
        assert answer.finished.reason is FinishReason.CANCELLED
        assert answer.finished.usage.completion_tokens == 2

    async def test_unknown_and_ended_ids_are_ignored(self, bench: Bench) -> None:
        answer = await bench.ask(max_tokens=2)
        for request_id in ("unknown", answer.request_id):
            bench.backend.cancel(request_id)
            bench.backend.grant(request_id, 5)
        await bench.backend.unload("unknown")
        assert (await bench.ask(max_tokens=2)).text == answer.text

    async def test_concurrent_answers_do_not_mix(self, bench: Bench) -> None:
        alone = await bench.ask()
        together = [bench.start() for _ in range(5)]
        for recording in together:
            await recording.end()
        assert [recording.text for recording in together] == [alone.text] * 5

    async def test_unloading_ends_running_and_waiting_requests(self, bench: Bench) -> None:
        requests = [bench.start(credit=1) for _ in range(3)]
        await requests[0].until(lambda recording: len(recording.tokens) == 1)
        await bench.backend.unload(MODEL)
        for recording in requests:
            await recording.end()
            assert recording.finished.reason is FinishReason.CANCELLED

    async def test_an_unloaded_model_can_be_loaded_again(self, bench: Bench) -> None:
        await bench.backend.unload(MODEL)
        spec = ModelSpec(MODEL, bench.subject.source, bench.backend.name)
        await bench.backend.load(spec, _ignore)
        assert (await bench.ask()).finished.reason is FinishReason.STOP

    async def test_closing_ends_what_runs_and_may_be_repeated(self, bench: Bench) -> None:
        answer = bench.start(credit=1)
        await answer.until(lambda recording: len(recording.tokens) == 1)
        await bench.backend.aclose()
        await bench.backend.aclose()
        await answer.end()
        assert answer.finished.reason is FinishReason.CANCELLED

    async def test_a_request_that_stalls_without_credit_is_cancelled(
        self, subject: BackendSubject
    ) -> None:
        async with opened(subject, parallel=2, stall_timeout=0.05) as bench:
            answer = await bench.ask(credit=1)
        assert answer.finished.reason is FinishReason.CANCELLED
        assert len(answer.tokens) == 1


@asynccontextmanager
async def opened(subject: BackendSubject, **settings: Any) -> AsyncIterator[Bench]:
    """Load the subject, close it at the end and hold all that was asked to the event laws."""
    backend = subject.backend(_config(subject, **settings))
    bench = Bench(backend, subject)
    try:
        await backend.load(ModelSpec(MODEL, subject.source, backend.name), _ignore)
        yield bench
    finally:
        await backend.aclose()
    for recording in bench.recordings:
        await recording.end()
        recording.check_laws()


def _config(subject: BackendSubject, **settings: Any) -> BackendConfig:
    return structs.replace(subject.config, ctx_size=CONTEXT, **settings)


def _ignore(progress: float) -> None:
    assert 0.0 <= progress <= 1.0
