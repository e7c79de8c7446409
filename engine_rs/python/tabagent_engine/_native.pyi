"""The compiled part of the engine. Every failure is a `tabagent_engine.EngineError`."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, final

from tabagent_engine.types import (
    EngineInfo,
    Event,
    GgufSummary,
    GpuDevice,
    Hardware,
    RuntimeAdvice,
    RuntimeCandidate,
)

__all__ = [
    "GgufEngine",
    "__version__",
    "advise_runtime",
    "detect_hardware",
    "inspect_gguf",
    "list_gpus",
    "list_runtimes",
    "prune_transcoded",
    "render_template",
]

__version__: str

@final
class GgufEngine:
    """One loaded GGUF with its scheduler. All methods may be called from any thread."""

    @staticmethod
    def open(
        model_path: str | PathLike[str],
        *,
        wake_fd: int,
        runtime: str | None = None,
        ctx_size: int | None = None,
        parallel: int = 4,
        threads: int | None = None,
        gpu_layers: int | Literal["auto"] = ...,
        mmap: bool = True,
        stall_timeout: float = 30.0,
        progress: Callable[[float], object] | None = None,
    ) -> GgufEngine:
        """Load a model; blocks, with the GIL released.

        `wake_fd` is the file number of one end of a `socket.socketpair()`; it is duplicated and
        made non-blocking, so the caller may close its own. One byte arrives at the other end when
        `drain` has something new; no second one is sent before `drain` has been called. `runtime`
        is a path, an id or None.
        `ctx_size` is in tokens per request, `stall_timeout` in seconds. `gpu_layers` (0) go to a
        GPU; `auto` means as many as fit, none without a GPU.
        A ternary file that must be transcoded is, into a cache; meanwhile `progress` is called with
        the share done, 0 to 1, on the calling thread, and what it raises ends the work.
        """
    @property
    def info(self) -> EngineInfo:
        """Facts of the opened model."""
    def submit(
        self,
        request_id: int,
        prompt: str | Sequence[int] | None,
        *,
        credit: int,
        messages: str | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = ...,
        logprobs: int | None = None,
        principal: str = "",
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repeat_penalty: float | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        seed: int | None = None,
        logit_bias: Mapping[int, float] | None = None,
        ignore_eos: bool = False,
        truncate: bool = False,
        return_prompt: bool = False,
    ) -> None:
        """Post a request; what becomes of it comes out of `drain`.

        Exactly one of `prompt` (text or token ids) and `messages` (a JSON array, rendered by the
        model's chat template) is given. `credit` tokens may be produced before `grant` gives more.
        `truncate` drops the oldest turns of `messages`, but no system message, until they leave
        room for an answer. More than 20 `logprobs` per token, up to the whole vocabulary, are
        reported where `max_tokens` keeps their number in an answer within 2**20.
        Raises EngineError (`invalid_parameter`, `shutting_down`).
        """
    def cancel(self, request_id: int) -> None:
        """End a request with `finished`, reason `cancelled`; unknown ids are ignored."""
    def grant(self, request_id: int, tokens: int) -> None:
        """Allow that many more tokens; unknown ids are ignored."""
    def drain(self) -> list[Event]:
        """Take all events since the last call, oldest first; never blocks."""
    def tokenize(self, text: str, add_special: bool = True) -> list[int]:
        """Token ids of a text; special tokens in it are recognised."""
    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of some tokens; bytes that are no UTF-8 become U+FFFD."""
    def render_chat(self, messages: str) -> str:
        """The prompt that the model's chat template makes of a JSON array of messages."""
    def close(self) -> None:
        """Cancel what runs and join the decode thread, with the GIL released; repeatable."""

def inspect_gguf(path: str | PathLike[str]) -> GgufSummary:
    """Judge a GGUF header without loading anything.

    Raises EngineError (`model_not_found`, `gguf_invalid`, `model_load_failed`); a well-formed file
    that cannot be run is no error here but has a `problem`.
    """

def prune_transcoded(keep: int = 0) -> tuple[int, int]:
    """Remove transcoded models, least recently used first, until `keep` bytes remain at most.

    Returns how many files were removed and their bytes. Models that run are not disturbed.
    """

def advise_runtime(variant: str) -> list[RuntimeAdvice]:
    """What a runtime with another CPU module than `variant` would bring on this processor."""

def detect_hardware() -> Hardware:
    """What this machine offers to an engine."""

def list_gpus(runtime: str) -> list[GpuDevice]:
    """The GPUs that the runtime of a path or id finds, which is opened for it.

    Raises EngineError (`library_not_found`, `runtime_conflict`, `invalid_parameter`).
    """

def list_runtimes(runtime: str | None = None) -> list[RuntimeCandidate]:
    """Judge every runtime found, best first, loading none. `runtime` narrows to a path or id."""

def render_template(template: str, messages: Sequence[Mapping[str, Any]], **context: Any) -> str:
    """Render a chat template over messages, within limits of work and output."""
