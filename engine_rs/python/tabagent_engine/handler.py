"""A blocking front to one GGUF model: text in, text out."""

from __future__ import annotations

import collections
import contextlib
import itertools
import socket
import threading
from typing import TYPE_CHECKING, Final, NoReturn

from tabagent_engine._native import GgufEngine
from tabagent_engine.errors import EngineError

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Sequence
    from types import TracebackType
    from typing import Self

    from tabagent_engine.types import Event

__all__ = ["GGUFHandler", "load_model"]

UNLIMITED: Final = 2**31 - 1
"""Credit of a request whose text is taken by an iterator: the answer's own limit bounds it."""


class GGUFHandler:
    """One loaded model. Threads may share it; their requests run one after another.

    `runtime` is a path, an id or None for the best one; `ctx_size` is in tokens.
    Raises EngineError when the runtime or the model cannot be loaded.
    """

    def __init__(
        self,
        runtime: str | os.PathLike[str] | None,
        model_path: str | os.PathLike[str],
        *,
        ctx_size: int | None = None,
        threads: int | None = None,
    ) -> None:
        self._wakeups, engine_end = socket.socketpair()
        with engine_end:
            try:
                self._engine = GgufEngine.open(
                    model_path,
                    wake_fd=engine_end.fileno(),
                    runtime=None if runtime is None else str(runtime),
                    ctx_size=ctx_size,
                    parallel=1,
                    threads=threads,
                )
            except BaseException:
                self._wakeups.close()
                raise
        self._ids = itertools.count(1)
        self._arrived = threading.Condition()
        self._reading = False
        self._unloaded = False
        self._events: dict[int, collections.deque[Event]] = {}

    def generate(
        self,
        prompt: str,
        *,
        max_tokens: int | None = 256,
        temperature: float | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> str:
        """The whole answer to a prompt; see `stream`."""
        parts = self.stream(
            prompt, max_tokens=max_tokens, temperature=temperature, seed=seed, stop=stop
        )
        return "".join(parts)

    def stream(
        self,
        prompt: str,
        *,
        max_tokens: int | None = 256,
        temperature: float | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> Generator[str, None, None]:
        """The answer piece by piece, as whole characters; closing the iterator cancels the request.

        Absent values are the model's own, else the engine's defaults; a temperature of 0 is greedy.
        Raises EngineError while iterating.
        """
        request_id = next(self._ids)
        self._events[request_id] = collections.deque()
        ended = True
        try:
            self._engine.submit(
                request_id,
                prompt,
                credit=UNLIMITED,
                max_tokens=max_tokens,
                temperature=temperature,
                seed=seed,
                stop=stop,
            )
            ended = False
            while not ended:
                event = self._next_event(request_id)
                if event[0] == "delta":
                    if event[2]:
                        yield event[2]
                elif event[0] == "failed":
                    ended = True
                    raise EngineError(event[2], event[3], event[4])
                else:
                    ended = event[0] == "finished"
        finally:
            if not ended:
                self._engine.cancel(request_id)
            del self._events[request_id]

    def tokenize(self, text: str, add_special: bool = True) -> list[int]:
        """Token ids of a text, with the tokens the model wants around it if `add_special`."""
        return self._engine.tokenize(text, add_special)

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of some tokens."""
        return self._engine.detokenize(ids)

    def embed(self, texts: Sequence[str]) -> NoReturn:
        """Raise EngineError (`not_supported`): this engine makes no embeddings yet."""
        raise EngineError("not_supported", "the engine makes no embeddings yet")

    def unload(self) -> None:
        """Free the model; running iterators end. May be called again."""
        self._engine.close()
        with self._arrived:
            self._route()
            self._unloaded = True
            self._arrived.notify_all()
        with contextlib.suppress(OSError):
            # Closing alone would not wake a thread that is reading.
            self._wakeups.shutdown(socket.SHUT_RDWR)
        self._wakeups.close()

    unload_model = unload

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.unload()

    def _next_event(self, request_id: int) -> Event:
        """Take the request's next event; one of those who find none reads for all."""
        mine = self._events[request_id]
        with self._arrived:
            while not mine:
                if self._reading:
                    self._arrived.wait()
                elif self._unloaded:
                    raise EngineError("shutting_down", "the model has been unloaded")
                else:
                    self._read()
            return mine.popleft()

    def _read(self) -> None:
        self._reading = True
        try:
            self._arrived.release()
            try:
                with contextlib.suppress(OSError):
                    self._wakeups.recv(1)
            finally:
                self._arrived.acquire()
            self._route()
        finally:
            self._reading = False
            self._arrived.notify_all()

    def _route(self) -> None:
        for event in self._engine.drain():
            # Nobody waits for what a cancelled request still says.
            if (events := self._events.get(event[1])) is not None:
                events.append(event)


def load_model(
    model_path: str | os.PathLike[str], runtime: str | os.PathLike[str] | None = None
) -> GGUFHandler:
    """Load a model with the best runtime, or with the one that a path or id names."""
    return GGUFHandler(runtime, model_path)
