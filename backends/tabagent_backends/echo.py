"""Repeats the prompt word by word: a demo, a test double that really streams, a template.

A backend over a blocking library looks like this one: a pool of worker threads per model, and
per request a `Producer` through which the worker emits events and waits for credit.
"""

from __future__ import annotations

import re
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from typing import TYPE_CHECKING, ClassVar

from anyio import to_thread
from msgspec import Struct
from tabagent import __version__
from tabagent.core.backend import Backend, BackendHealth, ModelInfo
from tabagent.core.bridge import Producer, ThreadBridge
from tabagent.core.errors import RequestError
from tabagent.core.events import (
    TERMINAL_EVENTS,
    Failed,
    Finished,
    FinishReason,
    Logprob,
    Queued,
    Started,
    TextDelta,
    TokenLogprob,
    Usage,
)
from tabagent.core.history import history_limit, newest_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tabagent.core.backend import BackendConfig, EventSink, ModelSpec
    from tabagent.core.events import Event
    from tabagent.core.requests import GenerateRequest, Message

__all__ = ["EchoBackend"]

CONTEXT_LENGTH = 8192

_TOKEN = re.compile(r"\s*\S+|\s+$")


class _Running(Struct):
    model: str
    producer: Producer
    work: Future[None]


class EchoBackend(Backend):
    """Answers with the last message, one word per token; its models are sources `echo:…`."""

    name: ClassVar[str] = "echo"

    def __init__(self, config: BackendConfig) -> None:
        super().__init__(config)
        self._bridge = ThreadBridge()
        self._workers: dict[str, ThreadPoolExecutor] = {}
        self._running: dict[str, _Running] = {}

    @classmethod
    def claims(cls, source: str) -> bool:
        """Claim sources that begin with `echo:`."""
        return source.startswith("echo:")

    @classmethod
    def health(cls, config: BackendConfig) -> BackendHealth:
        """Report that it always works."""
        return BackendHealth(cls.name, installed=True, works=True, version=__version__)

    async def load(self, spec: ModelSpec, progress: Callable[[float], None]) -> ModelInfo:
        """Start the model's worker threads."""
        parallel = self.config.parallel
        self._workers[spec.id] = ThreadPoolExecutor(parallel, f"echo-{spec.id}")
        progress(1.0)
        return ModelInfo(context_length=self._context_length, parallel=parallel)

    async def unload(self, model: str) -> None:
        """Cancel the model's requests and join its threads."""
        workers = self._workers.pop(model, None)
        if workers is not None:
            for request_id, running in list(self._running.items()):
                if running.model == model:
                    self.cancel(request_id)
            await to_thread.run_sync(workers.shutdown)

    def submit(self, model: str, request: GenerateRequest, credit: int, sink: EventSink) -> None:
        """Queue the request for a worker thread of the model."""
        request_id = request.request_id
        ahead = sum(running.model == model for running in self._running.values())

        def on_loop(events: Sequence[Event]) -> None:
            if isinstance(events[-1], TERMINAL_EVENTS):
                del self._running[request_id]
            sink(events)

        producer = Producer(self._bridge, on_loop, credit, self.config.stall_timeout)
        if ahead >= self.config.parallel:
            producer.emit(Queued(request_id, ahead + 1 - self.config.parallel))
        answer = partial(_answer, request, model, self._context_length, producer)
        self._running[request_id] = _Running(model, producer, self._workers[model].submit(answer))

    def cancel(self, request_id: str) -> None:
        """Let the worker end the request, or end it here when no worker has it yet."""
        running = self._running.get(request_id)
        if running is None:
            return
        running.producer.cancel()
        if running.work.cancel():
            running.producer.emit(Finished(request_id, FinishReason.CANCELLED))

    def grant(self, request_id: str, tokens: int) -> None:
        """Pass the credit on to the worker."""
        if request_id in self._running:
            self._running[request_id].producer.grant(tokens)

    async def aclose(self) -> None:
        """Unload every model."""
        for model in list(self._workers):
            await self.unload(model)

    @property
    def _context_length(self) -> int:
        return self.config.ctx_size or CONTEXT_LENGTH


def _answer(request: GenerateRequest, model: str, context: int, producer: Producer) -> None:
    """Answer one request; runs on a worker thread."""
    prompt = _prompt_tokens(request, context)
    if len(prompt) >= context:
        message = f"the prompt has {len(prompt)} tokens, the context holds {context}"
        error = RequestError("context_length_exceeded", message, param="prompt")
        producer.emit(Failed(request.request_id, error))
        return
    seed = request.sampling.seed or 0
    producer.emit(Started(request.request_id, model, len(prompt), seed=seed))
    tokens, reason = _plan(request, context - len(prompt))
    produced = 0
    for text in tokens:
        if not producer.take_credit():
            reason = FinishReason.CANCELLED
            break
        produced += 1
        producer.emit(_delta(request, text))
    usage = Usage(prompt_tokens=len(prompt), completion_tokens=produced)
    producer.emit(Finished(request.request_id, reason, usage))


def _prompt_tokens(request: GenerateRequest, context: int) -> list[str]:
    if request.messages is None:
        return _last_words(request)
    messages: Sequence[Message] = request.messages
    if request.truncate:
        limit = history_limit(context, request.max_tokens)
        messages = newest_turns(messages, lambda kept: len(_tokens(kept)) <= limit)
    return _tokens(messages)


def _tokens(messages: Iterable[Message]) -> list[str]:
    return [token for message in messages for token in _TOKEN.findall(message.content)]


def _last_words(request: GenerateRequest) -> list[str]:
    """What is repeated: the last user message, or the prompt."""
    if isinstance(request.prompt, tuple):
        return [f" {token}" for token in request.prompt]
    if request.messages is None:
        return _TOKEN.findall(request.prompt or "")
    said = [message.content for message in request.messages if message.role == "user"]
    return _TOKEN.findall(said[-1] if said else "")


def _plan(request: GenerateRequest, room: int) -> tuple[list[str], FinishReason]:
    """The answer's tokens and why they end, unless cancelled before."""
    words = _last_words(request)
    endless: Iterable[str] = cycle(words) if request.sampling.ignore_eos else words
    limit = room if request.max_tokens is None else min(room, request.max_tokens)
    tokens = list(islice(endless, limit))
    text = "".join(tokens)
    cuts = [text.index(stop) for stop in request.stop if stop in text]
    if cuts:
        return _cut(tokens, min(cuts)), FinishReason.STOP
    ended = len(tokens) == len(words) and not request.sampling.ignore_eos
    return tokens, FinishReason.STOP if ended else FinishReason.LENGTH


def _cut(tokens: list[str], length: int) -> list[str]:
    """The tokens that make up the first `length` characters, the last one shortened."""
    kept: list[str] = []
    for token in tokens:
        if length <= 0:
            break
        kept.append(token[:length])
        length -= len(token)
    return kept


def _delta(request: GenerateRequest, text: str) -> TextDelta:
    token = zlib.crc32(text.encode()) & 0x7FFFFFFF
    if request.logprobs is None:
        return TextDelta(request.request_id, text, (token,))
    certain = Logprob(token, text.encode(), 0.0)
    top = (certain,) if request.logprobs else ()
    return TextDelta(request.request_id, text, (token,), (TokenLogprob(certain, top),))
