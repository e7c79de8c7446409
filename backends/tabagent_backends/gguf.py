"""Runs GGUF models in-process through `tabagent_engine` and libllama."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, ClassVar

import msgspec
from anyio import from_thread, to_thread
from tabagent.core.backend import Backend, BackendHealth, ModelInfo
from tabagent.core.bridge import WakeupReader
from tabagent.core.errors import error_from_code
from tabagent.core.events import (
    TERMINAL_EVENTS,
    Failed,
    Finished,
    FinishReason,
    Logprob,
    PromptProgress,
    Queued,
    Started,
    TextDelta,
    Timings,
    TokenLogprob,
    Usage,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tabagent.core.backend import BackendConfig, EventSink, ModelSpec
    from tabagent.core.events import Event
    from tabagent.core.requests import GenerateRequest
    from tabagent_engine import EngineError, GgufEngine, types

__all__ = ["GgufBackend"]


class GgufBackend(Backend):
    """Claims `*.gguf` files; each loaded one is a `GgufEngine` with its own decode thread."""

    name: ClassVar[str] = "gguf"

    def __init__(self, config: BackendConfig) -> None:
        super().__init__(config)
        self._loaded: dict[str, _LoadedModel] = {}
        self._running: dict[str, tuple[_LoadedModel, int]] = {}
        self._numbers = count(1)

    @classmethod
    def claims(cls, source: str) -> bool:
        """Claim sources that end in `.gguf`."""
        return source.lower().endswith(".gguf")

    @classmethod
    def health(cls, config: BackendConfig) -> BackendHealth:
        """Report the runtime that would be used, or why none is."""
        try:
            import tabagent_engine
        except ImportError as error:
            return BackendHealth(cls.name, installed=False, works=False, reason=str(error))
        try:
            candidates = tabagent_engine.list_runtimes(config.runtime)
        except tabagent_engine.EngineError as error:
            return BackendHealth(cls.name, installed=True, works=False, reason=str(error))
        for candidate in candidates:
            if candidate["chosen"]:
                version = f"{candidate['id']} {candidate['version']} ({candidate['variant']})"
                return BackendHealth(cls.name, True, True, version, candidate["reason"])
        reasons = [f"{candidate['id']}: {candidate['reason']}" for candidate in candidates]
        reason = "; ".join(reasons) or "no runtime found"
        return BackendHealth(cls.name, installed=True, works=False, reason=reason)

    async def load(self, spec: ModelSpec, progress: Callable[[float], None]) -> ModelInfo:
        """Open the file in a worker thread; `progress` hears of transcoding, where it is needed."""
        model = _LoadedModel(spec.id, self._running)
        try:
            await to_thread.run_sync(model.open, spec.source, self.config, progress)
        except BaseException:
            model.reader.close()
            raise
        self._loaded[spec.id] = model
        info = model.engine.info
        return ModelInfo(
            context_length=info["context_length"],
            parallel=info["parallel"],
            size_bytes=info["size_bytes"],
            device="gpu" if info["gpu_layers"] else "cpu",
        )

    async def unload(self, model: str) -> None:
        """Close the engine in a worker thread, then pass on its last events."""
        loaded = self._loaded.pop(model, None)
        if loaded is not None:
            await to_thread.run_sync(loaded.engine.close)
            loaded.drain()
            loaded.reader.close()

    def submit(self, model: str, request: GenerateRequest, credit: int, sink: EventSink) -> None:
        """Post the request to the model's engine."""
        loaded, number = self._loaded[model], next(self._numbers)
        loaded.submit(number, request, credit, sink)
        self._running[request.request_id] = loaded, number

    def cancel(self, request_id: str) -> None:
        """Post the cancel to the engine that runs the request."""
        if request_id in self._running:
            loaded, number = self._running[request_id]
            loaded.engine.cancel(number)

    def grant(self, request_id: str, tokens: int) -> None:
        """Post the credit to the engine that runs the request."""
        if request_id in self._running:
            loaded, number = self._running[request_id]
            loaded.engine.grant(number, tokens)

    async def aclose(self) -> None:
        """Unload every model."""
        for model in list(self._loaded):
            await self.unload(model)


class _LoadedModel:
    """One engine, its wake-ups, and the sinks of its requests by the engine's number."""

    engine: GgufEngine

    def __init__(self, model: str, running: dict[str, tuple[_LoadedModel, int]]) -> None:
        self.reader = WakeupReader(self.drain)
        self._model = model
        self._running = running
        self._sinks: dict[int, tuple[str, EventSink]] = {}

    def open(self, source: str, config: BackendConfig, progress: Callable[[float], None]) -> None:
        """Load the file; blocks, so it runs in a worker thread, the import included."""
        from tabagent_engine import EngineError, GgufEngine

        def tell(share: float) -> None:
            from_thread.check_cancelled()
            from_thread.run_sync(progress, share)

        try:
            self.engine = GgufEngine.open(
                source,
                wake_fd=self.reader.fileno(),
                runtime=config.runtime,
                ctx_size=config.ctx_size,
                parallel=config.parallel,
                threads=config.threads,
                gpu_layers=config.gpu_layers,
                mmap=config.mmap,
                stall_timeout=config.stall_timeout,
                progress=tell,
            )
        except EngineError as error:
            raise _translated(error) from error

    def submit(self, number: int, request: GenerateRequest, credit: int, sink: EventSink) -> None:
        """Post a request under the engine's number for it."""
        from tabagent_engine import EngineError

        sampling, messages = request.sampling, None
        if request.messages is not None:
            messages = msgspec.json.encode(request.messages).decode()
        try:
            self.engine.submit(
                number,
                request.prompt,
                credit=credit,
                messages=messages,
                truncate=request.truncate,
                max_tokens=request.max_tokens,
                stop=request.stop,
                logprobs=request.logprobs,
                return_prompt=request.return_prompt,
                principal=request.principal.id,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                min_p=sampling.min_p,
                repeat_penalty=sampling.repeat_penalty,
                presence_penalty=sampling.presence_penalty,
                frequency_penalty=sampling.frequency_penalty,
                seed=sampling.seed,
                logit_bias=sampling.logit_bias,
                ignore_eos=sampling.ignore_eos,
            )
        except EngineError as error:
            raise _translated(error) from error
        self._sinks[number] = request.request_id, sink

    def drain(self) -> None:
        """Route all that the engine has to say; one call of a sink per request."""
        batches: dict[int, list[Event]] = {}
        for event in self.engine.drain():
            number = event[1]
            request_id = self._sinks[number][0]
            batches.setdefault(number, []).append(_event(event, request_id, self._model))
        for number, events in batches.items():
            request_id, sink = self._sinks[number]
            if isinstance(events[-1], TERMINAL_EVENTS):
                del self._sinks[number], self._running[request_id]
            sink(events)


def _translated(error: EngineError) -> Exception:
    return error_from_code(error.code, str(error), param=error.param)


def _event(event: types.Event, request_id: str, model: str) -> Event:
    """The core's event for one of the engine's tuples."""
    match event:
        case ("delta", _, text, tokens, logprobs):
            details = tuple(map(_token_logprob, logprobs)) if logprobs else ()
            return TextDelta(request_id, text, tuple(tokens), details)
        case ("queued", _, position):
            return Queued(request_id, position)
        case ("started", _, prompt_tokens, cached_tokens, seed, prompt):
            ids = None if prompt is None else tuple(prompt)
            return Started(request_id, model, prompt_tokens, cached_tokens, seed, ids)
        case ("progress", _, done, total):
            return PromptProgress(request_id, done, total)
        case ("finished", _, reason, prompt, cached, completion, queued_ms, prompt_ms, decode_ms):
            usage = Usage(prompt, completion, cached)
            timings = Timings(queued_ms, prompt_ms, decode_ms)
            return Finished(request_id, FinishReason(reason), usage, timings)
        case ("failed", _, code, message, param):
            return Failed(request_id, error_from_code(code, message, param=param))


def _token_logprob(entry: types.TokenLogprob) -> TokenLogprob:
    chosen, top = entry
    return TokenLogprob(Logprob(*chosen), tuple(Logprob(*candidate) for candidate in top))
