"""Requests meet models: admission, waiting, credit, cancelling, loading, closing."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tabagent.core.backend import ModelSpec
from tabagent.core.engine import Engine, EngineLimits
from tabagent.core.errors import BackendError, RequestError, TabagentError
from tabagent.core.events import (
    Event,
    Failed,
    Finished,
    FinishReason,
    ModelState,
    ModelStateChanged,
    PromptProgress,
    Queued,
    Started,
    TextDelta,
)
from tabagent.core.requests import GenerateRequest
from tabagent.testing import ScriptedBackend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tabagent.core.stream import EventStream

pytestmark = pytest.mark.anyio

FIRST = ModelSpec("first", "scripted:1", "scripted")
SECOND = ModelSpec("b", "scripted:2", "scripted")


def ask(request_id: str = "r", model: str | None = None) -> GenerateRequest:
    return GenerateRequest(request_id=request_id, model=model, prompt="hello")


def delta(text: str, *tokens: int, request_id: str = "r") -> TextDelta:
    return TextDelta(request_id, text, tokens)


def done(request_id: str = "r") -> Finished:
    return Finished(request_id, FinishReason.STOP)


@asynccontextmanager
async def running(
    backend: ScriptedBackend, *models: ModelSpec, **limits: Any
) -> AsyncIterator[Engine]:
    """An engine whose models are settled, unless the backend holds their load back."""
    async with Engine({"scripted": backend}, models, limits=EngineLimits(**limits)) as engine:
        await anyio.wait_all_tasks_blocked()
        yield engine


async def rest(stream: EventStream) -> list[Event]:
    return [event async for events in stream for event in events]


def codes(events: list[Event]) -> list[str]:
    return [event.error.code for event in events if isinstance(event, Failed)]


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend()


class TestStreaming:
    async def test_events_come_as_the_backend_tells_them(self, backend: ScriptedBackend) -> None:
        async with running(backend, FIRST) as engine, engine.generate(ask()) as stream:
            events: list[Event] = [
                Started("r", "first", 3),
                PromptProgress("r", 3, 3),
                delta("a", 1),
                done(),
            ]
            backend.emit("r", *events)
            assert await rest(stream) == events

    async def test_each_item_is_all_that_is_ready_with_deltas_joined(
        self, backend: ScriptedBackend
    ) -> None:
        async with running(backend, FIRST) as engine, engine.generate(ask()) as stream:
            backend.emit("r", delta("to", 1))
            backend.emit("r", delta("ke", 2), delta("ns", 3))
            assert await anext(stream) == [delta("tokens", 1, 2, 3)]
            backend.emit("r", delta("!", 4), done())
            assert await anext(stream) == [delta("!", 4), done()]
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

    async def test_a_waiting_consumer_is_woken(self, backend: ScriptedBackend) -> None:
        received: list[Event] = []

        async def consume(stream: EventStream) -> None:
            received.extend(await rest(stream))

        async with running(backend, FIRST) as engine, engine.generate(ask()) as stream:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(consume, stream)
                await anyio.wait_all_tasks_blocked()
                backend.emit("r", delta("a", 1))
                await anyio.wait_all_tasks_blocked()
                assert received == []
                backend.emit("r", done())
        assert received == [delta("a", 1), done()]

    async def test_cancelling_a_wait_loses_no_event(self, backend: ScriptedBackend) -> None:
        async with running(backend, FIRST) as engine, engine.generate(ask()) as stream:
            with anyio.move_on_after(0) as scope:
                await anext(stream)
            assert scope.cancelled_caught
            backend.emit("r", delta("a", 1), done())
            assert await anext(stream) == [delta("a", 1), done()]

    async def test_nothing_follows_the_terminal_event(self, backend: ScriptedBackend) -> None:
        async with running(backend, FIRST) as engine, engine.generate(ask()) as stream:
            sink = backend.running["r"].sink
            backend.emit("r", done())
            sink([delta("late", 9), done()])
            assert await rest(stream) == [done()]

    async def test_credit_is_given_back_only_when_the_next_item_is_asked_for(
        self, backend: ScriptedBackend
    ) -> None:
        async with running(backend, FIRST, credit=4) as engine, engine.generate(ask()) as stream:
            assert backend.running["r"].credit == 4
            backend.emit("r", delta("ab", 1, 2), delta("c", 3))
            await anext(stream)
            assert backend.granted == []
            backend.emit("r", delta("d", 4))
            await anext(stream)
            assert backend.granted == [("r", 3)]

    async def test_little_credit_is_gathered_before_it_is_given_back(
        self, backend: ScriptedBackend
    ) -> None:
        async with running(backend, FIRST, credit=8) as engine, engine.generate(ask()) as stream:
            for number in range(4):
                backend.emit("r", delta("x", number))
                await anext(stream)
            assert backend.granted == [("r", 2)]

    async def test_no_credit_is_given_back_after_the_end(self, backend: ScriptedBackend) -> None:
        async with running(backend, FIRST, credit=1) as engine, engine.generate(ask()) as stream:
            backend.emit("r", delta("a", 1), done())
            await rest(stream)
            assert backend.granted == []


class TestCancelling:
    async def test_leaving_cancels_what_runs(self, backend: ScriptedBackend) -> None:
        async with running(backend, FIRST) as engine:
            async with engine.generate(ask()) as stream:
                backend.emit("r", delta("a", 1))
                await anext(stream)
            assert backend.cancelled == ["r"]

    async def test_leaving_after_the_end_cancels_nothing(self, backend: ScriptedBackend) -> None:
        async with running(backend, FIRST) as engine:
            async with engine.generate(ask()) as stream:
                backend.emit("r", done())
                await rest(stream)
            assert backend.cancelled == []

    async def test_an_id_cancels_its_request_only(self, backend: ScriptedBackend) -> None:
        async with (
            running(backend, FIRST) as engine,
            engine.generate(ask("r")) as stream,
            engine.generate(ask("other")),
        ):
            engine.cancel("unknown")
            engine.cancel("r")
            assert await rest(stream) == [Finished("r", FinishReason.CANCELLED)]
            assert list(backend.running) == ["other"]

    async def test_a_stream_cancelled_before_it_is_entered_never_reaches_the_backend(
        self, backend: ScriptedBackend
    ) -> None:
        async with running(backend, FIRST) as engine:
            stream = engine.generate(ask())
            stream.cancel()
            async with stream:
                assert await rest(stream) == [Finished("r", FinishReason.CANCELLED)]
        assert backend.submitted == []

    async def test_a_request_that_waits_for_its_model_can_be_cancelled(
        self, backend: ScriptedBackend
    ) -> None:
        backend.may_load = anyio.Event()
        async with running(backend, FIRST) as engine, engine.generate(ask()) as stream:
            engine.cancel("r")
            assert await rest(stream) == [Queued("r", 0), Finished("r", FinishReason.CANCELLED)]
            backend.may_load.set()
            await engine.load("first")
        assert backend.submitted == []


class TestAdmission:
    async def test_without_a_model_the_first_one_answers(self, backend: ScriptedBackend) -> None:
        async with running(backend, FIRST, SECOND) as engine:
            async with engine.generate(ask("x")), engine.generate(ask("y", "b")):
                assert backend.running["x"].model == "first"
                assert backend.running["y"].model == "b"
            await engine.unload("first")
            async with engine.generate(ask("z")):
                assert backend.running["z"].model == "b"

    async def test_an_unknown_model_is_not_found(self, backend: ScriptedBackend) -> None:
        async with running(backend, FIRST) as engine, engine.generate(ask(model="no")) as stream:
            assert stream.refusal is not None
            assert (stream.refusal.code, stream.refusal.param) == ("model_not_found", "model")
            assert await rest(stream) == [Failed("r", stream.refusal)]

    async def test_without_any_model_nothing_is_found(self, backend: ScriptedBackend) -> None:
        async with running(backend) as engine, engine.generate(ask()) as stream:
            assert codes(await rest(stream)) == ["model_not_found"]

    async def test_an_unloaded_model_is_not_found(self, backend: ScriptedBackend) -> None:
        async with running(backend) as engine:
            engine.register(FIRST)
            async with engine.generate(ask(model="first")) as stream:
                assert codes(await rest(stream)) == ["model_not_found"]

    async def test_only_the_models_it_is_made_with_are_loaded_at_start(
        self, backend: ScriptedBackend
    ) -> None:
        engine = Engine({"scripted": backend}, [FIRST])
        engine.register(SECOND)
        async with engine:
            await engine.load(FIRST.id)
            states = {model.id: model.state for model in engine.models()}
        assert states == {FIRST.id: ModelState.READY, SECOND.id: ModelState.UNLOADED}

    async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(
        self, backend: ScriptedBackend
    ) -> None:
        async with running(backend, FIRST, max_queue=1, retry_after=7.0) as engine:
            async with anyio.create_task_group() as tasks:
                for number in range(backend.info.parallel + 1):
                    tasks.start_soon(_hold, engine.generate(ask(f"held-{number}")))
                await anyio.wait_all_tasks_blocked()
                async with engine.generate(ask()) as stream:
                    assert stream.refusal is not None
                    assert stream.refusal.code == "overloaded"
                    assert stream.refusal.retry_after == 7.0
                backend.emit("held-0", done("held-0"))
                async with engine.generate(ask()) as stream:
                    assert stream.refusal is None
                tasks.cancel_scope.cancel()

    async def test_a_left_request_keeps_its_place_until_the_backend_ends_it(
        self, backend: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend.info = type(backend.info)(context_length=64, parallel=1)
        monkeypatch.setattr(backend, "cancel", backend.cancelled.append)
        async with running(backend, FIRST, max_queue=0) as engine:
            async with engine.generate(ask("left")):
                pass
            async with engine.generate(ask()) as stream:
                assert codes(await rest(stream)) == ["overloaded"]
            backend.emit("left", Finished("left", FinishReason.CANCELLED))
            async with engine.generate(ask()) as stream:
                assert stream.refusal is None
            backend.emit("r", done())

    async def test_an_error_of_the_backend_is_the_requests_failure(
        self, backend: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        error: Exception = RequestError("invalid_parameter", "no such token", param="logit_bias")

        def refuse(*args: object) -> None:
            raise error

        monkeypatch.setattr(backend, "submit", refuse)
        async with running(backend, FIRST) as engine:
            async with engine.generate(ask()) as stream:
                assert await rest(stream) == [Failed("r", stream.refusal or _none())]
                assert stream.refusal is error
            error = ZeroDivisionError("a bug")
            async with engine.generate(ask()) as stream:
                assert codes(await rest(stream)) == ["decode_failed"]

    async def test_an_id_in_use_is_an_error_of_the_caller(
        self, backend: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backend, "cancel", backend.cancelled.append)
        async with running(backend, FIRST) as engine:
            async with engine.generate(ask()):
                with pytest.raises(ValueError, match="in use"):
                    await engine.generate(ask()).__aenter__()
            with pytest.raises(ValueError, match="in use"):
                await engine.generate(ask()).__aenter__()  # left, and not ended yet
            backend.emit("r", done())
            async with engine.generate(ask()) as stream:
                assert stream.refusal is None


class TestModels:
    async def test_models_load_one_after_the_other_in_the_background(
        self, backend: ScriptedBackend
    ) -> None:
        backend.may_load = anyio.Event()
        async with running(backend, FIRST, SECOND) as engine:
            assert [model.state for model in engine.models()] == [ModelState.LOADING] * 2
            assert backend.loads == ["first"]
            assert engine.model("first").progress == 0.5
            backend.may_load.set()
            status = await engine.load("b")
            assert backend.loads == ["first", "b"]
            assert status == engine.model("b")
            assert (status.state, status.context_length) == (ModelState.READY, 64)

    async def test_requests_wait_for_their_model(self, backend: ScriptedBackend) -> None:
        backend.may_load = anyio.Event()
        async with (
            running(backend, FIRST) as engine,
            engine.generate(ask("x")) as x,
            engine.generate(ask("y")) as y,
        ):
            assert await anext(x) == [Queued("x", 0)]
            assert await anext(y) == [Queued("y", 1)]
            assert backend.submitted == []
            backend.may_load.set()
            await engine.load("first")
            assert backend.submitted == ["x", "y"]

    async def test_loads_of_one_model_are_one_load(self, backend: ScriptedBackend) -> None:
        backend.may_load = anyio.Event()
        async with running(backend, FIRST) as engine, anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(engine.load, "first")
            await anyio.wait_all_tasks_blocked()
            backend.may_load.set()
        assert backend.loads == ["first"]

    async def test_a_caller_who_goes_away_does_not_stop_the_load(
        self, backend: ScriptedBackend
    ) -> None:
        backend.may_load = anyio.Event()
        async with running(backend) as engine:
            engine.register(FIRST)
            with anyio.move_on_after(0):
                await engine.load("first")
            backend.may_load.set()
            assert (await engine.load("first")).state is ModelState.READY
        assert backend.loads == ["first"]

    async def test_a_failed_load_is_remembered_until_the_next_try(
        self, backend: ScriptedBackend
    ) -> None:
        backend.load_error = BackendError("gguf_invalid", "no GGUF")
        async with running(backend, FIRST) as engine:
            status = engine.model("first")
            assert (status.state, status.error) == (ModelState.FAILED, backend.load_error)
            async with engine.generate(ask(model="first")) as stream:
                assert codes(await rest(stream)) == ["gguf_invalid"]
            with pytest.raises(TabagentError) as failure:
                await engine.load("first")
            assert failure.value is backend.load_error
            assert backend.loads == ["first", "first"]
            backend.load_error = None
            assert (await engine.load("first")).error is None

    async def test_requests_that_waited_for_a_failed_load_fail_with_it(
        self, backend: ScriptedBackend
    ) -> None:
        backend.may_load = anyio.Event()
        backend.load_error = BackendError("out_of_memory", "too big")
        async with running(backend, FIRST) as engine, engine.generate(ask()) as stream:
            backend.may_load.set()
            assert codes(await rest(stream)) == ["out_of_memory"]

    async def test_an_unforeseen_error_of_a_load_gets_a_code(
        self, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
    ) -> None:
        backend.load_error = ZeroDivisionError("a bug")
        async with running(backend, FIRST) as engine:
            error = engine.model("first").error
            assert error is not None
            assert error.code == "model_load_failed"
        assert "a bug" in caplog.text

    async def test_unloading_cancels_the_models_requests(self, backend: ScriptedBackend) -> None:
        async with (
            running(backend, FIRST, SECOND) as engine,
            engine.generate(ask("x")) as stream,
            engine.generate(ask("y", "b")),
        ):
            assert (await engine.unload("first")).state is ModelState.UNLOADED
            assert await rest(stream) == [Finished("x", FinishReason.CANCELLED)]
            assert backend.unloads == ["first"]
            assert list(backend.running) == ["y"]
            assert (await engine.load("first")).state is ModelState.READY

    async def test_unloading_waits_for_a_load_under_way(self, backend: ScriptedBackend) -> None:
        backend.may_load = anyio.Event()
        async with running(backend, FIRST) as engine:
            async with engine.generate(ask()) as stream, anyio.create_task_group() as tasks:
                tasks.start_soon(engine.unload, "first")
                await anyio.wait_all_tasks_blocked()
                assert backend.unloads == []
                backend.may_load.set()
                assert (await rest(stream))[-1] == Finished("r", FinishReason.CANCELLED)
            assert engine.model("first").state is ModelState.UNLOADED
        assert backend.unloads == ["first"]

    async def test_a_caller_who_goes_away_does_not_stop_an_unload(
        self, backend: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        may_unload = anyio.Event()
        unloaded: list[str] = []

        async def unload(model: str) -> None:
            await may_unload.wait()
            unloaded.append(model)

        monkeypatch.setattr(backend, "unload", unload)
        async with running(backend, FIRST) as engine, anyio.create_task_group() as tasks:
            tasks.start_soon(engine.unload, "first")
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
            may_unload.set()
        assert unloaded == ["first"]

    async def test_unknown_models_are_not_found(self, backend: ScriptedBackend) -> None:
        async with running(backend) as engine:
            for action in (engine.load, engine.unload):
                with pytest.raises(RequestError, match="no model 'x'"):
                    await action("x")
            with pytest.raises(RequestError, match="no model 'x'"):
                engine.model("x")

    async def test_ids_and_backends_are_checked_on_registering(
        self, backend: ScriptedBackend
    ) -> None:
        engine = Engine({"scripted": backend}, [FIRST])
        with pytest.raises(ValueError, match="two models"):
            engine.register(ModelSpec("first", "elsewhere", "scripted"))
        with pytest.raises(ValueError, match="no backend"):
            engine.register(ModelSpec("x", "x", "none"))

    async def test_subscribers_see_the_models_lives(self, backend: ScriptedBackend) -> None:
        backend.may_load = anyio.Event()
        async with running(backend) as engine:
            engine.register(FIRST)
            with engine.subscribe() as changes:
                with anyio.move_on_after(0):
                    await engine.load("first")
                await anyio.wait_all_tasks_blocked()
                # The start and the progress of one load are one run: the latest stands for it.
                assert await anext(changes) == [ModelStateChanged("first", ModelState.LOADING, 0.5)]
                backend.may_load.set()
                assert await anext(changes) == [ModelStateChanged("first", ModelState.READY, 1.0)]
                await engine.unload("first")
                backend.load_error = BackendError("gguf_invalid", "no GGUF")
                with pytest.raises(BackendError):
                    await engine.load("first")
                assert await anext(changes) == [
                    ModelStateChanged("first", ModelState.UNLOADED),
                    ModelStateChanged("first", ModelState.LOADING, 0.5),
                    ModelStateChanged("first", ModelState.FAILED, 0.0, backend.load_error),
                ]


class TestClosing:
    async def test_running_requests_end_before_the_backend_closes(
        self, backend: ScriptedBackend
    ) -> None:
        seen: list[tuple[list[Event], bool]] = []

        async def consume(engine: Engine) -> None:
            async with engine.generate(ask()) as stream:
                seen.append((await rest(stream), backend.closed))

        async with running(backend, FIRST) as engine, anyio.create_task_group() as tasks:
            tasks.start_soon(consume, engine)
            await anyio.wait_all_tasks_blocked()
            await engine.aclose()
        assert seen == [([Finished("r", FinishReason.CANCELLED)], False)]
        assert backend.closed

    async def test_a_consumer_that_takes_nothing_does_not_hold_up_the_closing(
        self, backend: ScriptedBackend
    ) -> None:
        async with running(backend, FIRST, close_timeout=0.0) as engine:
            async with engine.generate(ask()):
                await engine.aclose()
                assert backend.closed

    async def test_a_closing_engine_refuses_requests_and_loads(
        self, backend: ScriptedBackend
    ) -> None:
        async with running(backend, FIRST) as engine:
            engine.register(SECOND)
            await engine.aclose()
            async with engine.generate(ask()) as stream:
                assert codes(await rest(stream)) == ["shutting_down"]
            with pytest.raises(RequestError, match="not running"):
                await engine.load("b")

    async def test_subscriptions_end(self, backend: ScriptedBackend) -> None:
        async with running(backend) as engine:
            with engine.subscribe() as before:
                await engine.aclose()
                assert [change async for change in before] == []
            with engine.subscribe() as after:
                assert [change async for change in after] == []

    async def test_a_load_under_way_is_given_up(self, backend: ScriptedBackend) -> None:
        backend.may_load = anyio.Event()
        async with running(backend, FIRST) as engine:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_expect_shutting_down, engine)
                await anyio.wait_all_tasks_blocked()
                await engine.aclose()
            assert engine.model("first").state is ModelState.FAILED
        assert backend.closed


async def _hold(stream: EventStream) -> None:
    async with stream:
        await anyio.sleep_forever()


async def _expect_shutting_down(engine: Engine) -> None:
    with pytest.raises(RequestError, match="shutting down"):
        await engine.load("first")


def _none() -> TabagentError:
    raise AssertionError("there is no refusal")
