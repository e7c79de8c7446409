"""What runs models: turns a request into events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .events import Event
    from .requests import GenerateRequest

__all__ = ["Backend", "BackendConfig", "BackendHealth", "EventSink", "ModelInfo", "ModelSpec"]

EventSink: TypeAlias = "Callable[[Sequence[Event]], None]"
"""Takes one or more events of one request, in order; called on the event loop's thread."""


class BackendConfig(Struct, frozen=True, kw_only=True):
    """The server's settings that concern backends; None leaves the choice to the backend.

    Attributes:
        runtime: Path or id of the libllama runtime.
        ctx_size: Tokens one request may use.
        parallel: Requests decoded together, per model.
        threads: Compute threads.
        gpu_layers: Layers on the GPU; 0 is CPU only, `auto` as many as fit.
        mmap: Map model files instead of reading them.
        stall_timeout: Seconds after which a request whose peer takes nothing is cancelled.
    """

    runtime: str | None = None
    ctx_size: int | None = None
    parallel: int = 4
    threads: int | None = None
    gpu_layers: int | Literal["auto"] = 0
    mmap: bool = True
    stall_timeout: float = 30.0


class ModelSpec(Struct, frozen=True):
    """A model the server may load: its public id and where it comes from."""

    id: str
    source: str
    backend: str


class ModelInfo(Struct, frozen=True, kw_only=True):
    """A loaded model.

    Attributes:
        context_length: Tokens one request may use, prompt and answer together.
        parallel: Requests it decodes together; more wait inside the backend.
        size_bytes: Bytes of its weights, where known.
        device: Where it is computed: `cpu` or `gpu`.
    """

    context_length: int
    parallel: int
    size_bytes: int | None = None
    device: str = "cpu"


class BackendHealth(Struct, frozen=True):
    """Whether a backend can work on this machine, and why (not)."""

    name: str
    installed: bool
    works: bool
    version: str | None = None
    reason: str = ""


class Backend(ABC):
    """Runs the models of one format. Lives on the event loop's thread and never blocks it.

    An entry point of the group `tabagent.backends` names a subclass.

    Guarantees of every implementation (held by `tabagent.testing.BackendContract`):

    * `submit`, `cancel` and `grant` only post and return at once.
    * The event laws of `tabagent.core.events` hold for each submitted request.
    * A request produces at most `credit` tokens beyond those given back by `grant`.
    """

    name: ClassVar[str]

    def __init__(self, config: BackendConfig) -> None:
        self.config = config

    @classmethod
    @abstractmethod
    def claims(cls, source: str) -> bool:
        """Whether this backend runs models from `source` (a path or an id)."""

    @abstractmethod
    async def load(self, spec: ModelSpec, progress: Callable[[float], None]) -> ModelInfo:
        """Load a model; `progress` (0 to 1) is called on the loop's thread.

        :raises TabagentError: with the code that says why it cannot be loaded.
        """

    @abstractmethod
    async def unload(self, model: str) -> None:
        """Unload a model; its requests end as cancelled. Unknown ids are ignored."""

    @abstractmethod
    def submit(self, model: str, request: GenerateRequest, credit: int, sink: EventSink) -> None:
        """Start a request on a loaded model; what becomes of it is told through `sink`.

        :raises TabagentError: when it is refused at once; then `sink` hears nothing of it.
        """

    @abstractmethod
    def cancel(self, request_id: str) -> None:
        """End a request soon; unknown and ended ids are ignored."""

    @abstractmethod
    def grant(self, request_id: str, tokens: int) -> None:
        """Give back credit for tokens that have been sent."""

    @classmethod
    @abstractmethod
    def health(cls, config: BackendConfig) -> BackendHealth:
        """Report whether the backend can work here; cheap, loads no model."""

    @abstractmethod
    async def aclose(self) -> None:
        """Unload everything and join all threads."""
