"""Shapes of what the native module takes and returns; no code runs here."""

from __future__ import annotations

from typing import Literal, TypeAlias, TypedDict

FinishReason: TypeAlias = Literal["stop", "length", "cancelled"]

Logprob: TypeAlias = tuple[int, bytes, float]
"""Token id, its bytes (not always whole UTF-8), natural logarithm of its probability."""

TokenLogprob: TypeAlias = tuple[Logprob, list[Logprob]]
"""The token produced, and the likeliest tokens at that place, best first."""

QueuedEvent: TypeAlias = tuple[Literal["queued"], int, int]
"""Request id, requests ahead of it."""

StartedEvent: TypeAlias = tuple[Literal["started"], int, int, int, int, list[int] | None]
"""Request id, prompt tokens, of these cached, seed in force, the prompt's tokens if asked for."""

ProgressEvent: TypeAlias = tuple[Literal["progress"], int, int, int]
"""Request id, prompt tokens read, prompt tokens in all."""

DeltaEvent: TypeAlias = tuple[Literal["delta"], int, str, list[int], list[TokenLogprob] | None]
"""Request id, whole UTF-8 text (may be empty), tokens produced, one logprob entry per token."""

FinishedEvent: TypeAlias = tuple[
    Literal["finished"], int, FinishReason, int, int, int, float, float, float
]
"""Request id, reason; prompt, cached, completion tokens; queued, prompt, decode milliseconds."""

FailedEvent: TypeAlias = tuple[Literal["failed"], int, str, str, str | None]
"""Request id, stable code, message, the request field to blame."""

Event: TypeAlias = (
    QueuedEvent | StartedEvent | ProgressEvent | DeltaEvent | FinishedEvent | FailedEvent
)
"""One event of one request. Exactly one `finished` or `failed` ends it; nothing follows."""


class EngineInfo(TypedDict):
    """Facts of an opened model.

    `gpu_layers` are on a GPU, the one that makes the logits too. `size_bytes` are its tensors,
    `expected_bytes` the main memory it was expected to take with its cache and the buffers to
    compute in.
    """

    architecture: str
    name: str | None
    context_length: int
    trained_context: int
    parallel: int
    threads: int
    gpu_layers: int
    vocab_size: int
    size_bytes: int
    expected_bytes: int
    has_chat_template: bool
    runtime: str


class CoresInfo(TypedDict):
    """Cores of one kind: physical ones, hardware threads, physical ones this process may use."""

    kind: Literal["performance", "efficiency"]
    cores: int
    threads: int
    usable: int


class CacheInfo(TypedDict):
    """Caches of one level and size in `bytes` each; `count` is 0 where the system does not tell."""

    level: int
    purpose: Literal["data", "instruction", "unified"]
    bytes: int
    count: int


class CpuInfo(TypedDict):
    """The processor: `cores` physical ones, `threads` that this process may use.

    `allowed` are the hardware threads that affinity and cpuset leave, `quota` the processors' worth
    of time that control groups allow (None: no quota); `threads` is the lower of both.
    `microarchitecture` is None where it is not on record.
    """

    vendor: str
    family: int
    model: int
    stepping: int
    name: str
    microarchitecture: str | None
    flags: list[str]
    cores: int
    threads: int
    allowed: int
    quota: float | None
    kinds: list[CoresInfo]
    caches: list[CacheInfo]


class MemoryInfo(TypedDict):
    """Main memory in bytes, as far as this process may use it.

    `limit` is that of the control group, None where the machine has no more anyway.
    """

    total: int
    available: int
    limit: int | None


class GpuInfo(TypedDict):
    """A GPU that the operating system lists; `memory` in bytes where the system tells."""

    vendor: str
    name: str
    id: str
    driver: str | None
    memory: int | None


class ThreadsInfo(TypedDict):
    """Compute threads by default, and why that many."""

    count: int
    reason: str


class Hardware(TypedDict):
    """What the machine offers to an engine."""

    cpu: CpuInfo
    memory: MemoryInfo
    gpus: list[GpuInfo]
    threads: ThreadsInfo


class RuntimeGain(TypedDict):
    """Measured speed with weights of this type, as a multiple; `generation` None: not measured."""

    weights: str
    prompt: float
    generation: float | None


class RuntimeAdvice(TypedDict):
    """What another runtime would bring here."""

    text: str
    gains: list[RuntimeGain]


class RuntimeCandidate(TypedDict):
    """One runtime folder with one CPU module, judged.

    Candidates come best first; at most one is `chosen`. `path` is the libllama file, `module` the
    CPU module's unless that is linked in; `gpu` names the interfaces of its GPU modules. `score` is
    0 when it is not `allowed`; `reason` says why.
    """

    id: str
    path: str
    module: str | None
    variant: str
    version: str
    allowed: bool
    score: int
    chosen: bool
    gpu: list[str]
    reason: str


class GpuDevice(TypedDict):
    """A GPU as a runtime lists it: its short name there, its model, bytes in all and free."""

    name: str
    description: str
    memory: int
    free: int


class TensorTotal(TypedDict):
    """All tensors of one type; `bytes` is 0 for a type the engine does not know."""

    name: str
    tensors: int
    bytes: int


class Ternary(TypedDict):
    """Weights of three values, and how they run.

    `encoding` is how most of the `tensors` are stored, None where a general type holds them;
    `runs_as` are the types they are computed with. A file that `needs_transcoding` is rewritten
    into a cache when it is first opened. `squared_relu` tells the graph of BitNet-b1.58-2B-4T.
    """

    encoding: str | None
    tensors: int
    runs_as: list[str]
    needs_transcoding: bool
    squared_relu: bool


class GgufSummary(TypedDict):
    """The judged header of a GGUF file.

    `problem` says why this engine cannot run the file, or is None. A model may consist of several
    files, `parts`; `file_bytes` are those of all. Sizes are 0 where the file is refused. In
    `metadata` an array appears as its items if these are integers and few, else as its item type
    and length, e.g. `string[32000]`.
    """

    version: int
    file_bytes: int
    parts: int
    architecture: str
    name: str | None
    tensor_types: list[TensorTotal]
    tensor_count: int
    parameters: int
    weight_bytes: int
    context_length: int
    embedding_length: int
    block_count: int
    head_count: int
    head_count_kv: int
    kv_bytes_per_token: int
    vocab_size: int
    ternary: Ternary | None
    problem: str | None
    metadata: dict[str, str | int | float | bool | list[int]]
