"""The message set of the TabAgent extension: actions in, replies and events out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from msgspec import Struct

from tabagent import __version__
from tabagent.core.errors import ProtocolError, RequestError, TabagentError
from tabagent.core.events import (
    TERMINAL_EVENTS,
    Failed,
    ModelsListed,
    ModelState,
    ModelStateChanged,
    SystemDescribed,
)
from tabagent.core.protocol import Protocol
from tabagent.core.requests import (
    CancelRequest,
    DeleteModel,
    DescribeSystem,
    ListModels,
    LoadModel,
    PullModel,
    UnloadModel,
)

from .answer_fields import model_object
from .extension_generation import Generation
from .extension_pull import Pull, PullMessage
from .extension_replies import Call
from .extension_request import (
    Envelope,
    GenerateMessage,
    ModelMessage,
    Settings,
    SettingsMessage,
    generate_request,
)
from .wire import decode, encode, invalid, new_id

if TYPE_CHECKING:
    from tabagent.core.events import Event, ModelStatus
    from tabagent.core.requests import Principal

__all__ = ["MAX_OPEN", "UNSUPPORTED", "ExtensionProtocol"]

MAX_OPEN: Final = 64
"""Requests of one connection that run or wait."""

UNSUPPORTED: Final = frozenset(
    {
        "check_lmstudio",
        "estimate_model_size",
        "generate_embeddings",
        "lmstudio_status",
        "rerank_documents",
    }
)
"""Actions of the contract whose feature is not there: they say so."""

RESOURCES: Final = ("cpu", "memory", "gpus")


class _Command(Struct):
    """A request that is no generation, and what is made of its answer."""

    call: Call
    answer: Callable[[Call, Any], object]


class _Loading(Struct):
    """A `load_model` that is under way."""

    call: Call
    model: str
    quiet: bool
    begun: bool = False


class ExtensionProtocol(Protocol):
    """The extension's side of one connection.

    Rules:

    1. Each message gets one reply, with its ids: a `generate` when it is admitted, all others
       when they are done. Events tell what happens before (loading) and after (generating).
    2. The first message of a connection, when it carries no id, gets one reply and no events: it
       comes from `sendNativeMessage`, which hears a single frame. `generate` then answers whole,
       as it does wherever `stream` is false.
    3. Settings hold for the connection; those in a `generate` go before them.
    """

    name: ClassVar[str] = "extension"

    def __init__(self, principal: Principal, clock: Callable[[], float] = time.monotonic) -> None:
        """Measure rates by `clock` (seconds)."""
        super().__init__(principal)
        self._clock = clock
        self._settings: dict[str, Any] = {}
        self._generations: dict[str, Generation] = {}
        self._commands: dict[str, _Command] = {}
        self._loading: dict[str, _Loading] = {}
        self._pulls: dict[str, Pull] = {}
        self._is_first = True

    def receive_message(self, message: str | bytes) -> None:
        """Take one whole message from the peer; bytes are a binary frame."""
        call = Call(None, {}, self._messages)
        is_first, self._is_first = self._is_first, False
        try:
            if isinstance(message, bytes):
                raise ProtocolError("invalid_message", "messages are text frames, not binary ones")
            envelope = decode(message, Envelope)
            call = Call(envelope.action, envelope.ids(), self._messages)
            if envelope.action is None:
                self._take_ping(envelope)
                return
            if self._open() >= MAX_OPEN:
                raise RequestError("overloaded", f"{MAX_OPEN} requests are already open")
            self._take(call, message, alone=is_first and not call.ids)
        except TabagentError as error:
            call.fail(error)

    def request_accepted(self, request_id: str, model: str) -> None:
        """Reply to the `generate`, unless it answers whole."""
        del model
        self._generations[request_id].accept()

    def send_event(self, event: Event) -> None:
        """Take one event of a request that this protocol handed out, or of a model."""
        if isinstance(event, ModelStateChanged):
            self._tell_progress(event)
        elif event.request_id in self._generations:
            self._generations[event.request_id].send_event(event)
            if isinstance(event, TERMINAL_EVENTS):
                del self._generations[event.request_id]
        elif event.request_id in self._loading:
            self._end_loading(self._loading.pop(event.request_id), event)
        elif event.request_id in self._pulls:
            if self._pulls[event.request_id].send_event(event):
                del self._pulls[event.request_id]
        else:
            command = self._commands.pop(event.request_id)
            if isinstance(event, Failed):
                command.call.fail(event.error)
            else:
                command.answer(command.call, event)

    def _open(self) -> int:
        """How many requests run or wait."""
        waiting = len(self._commands) + len(self._loading) + len(self._pulls)
        return len(self._generations) + waiting

    def _take_ping(self, envelope: Envelope) -> None:
        """Take a message without an action: the keep-alive of duplex connections, or an error."""
        if envelope.type == "tabagent.ping":
            self._messages.append(encode({"type": "tabagent.pong"}))
        elif envelope.type != "tabagent.pong":
            raise ProtocolError("invalid_message", "a message needs an action")

    def _take(self, call: Call, message: str, *, alone: bool) -> None:
        match call.action:
            case "ping":
                call.succeed({"response": "pong", "version": __version__, "pid": os.getpid()})
            case "generate":
                self._generate(call, decode(message, GenerateMessage), alone=alone)
            case "stop_generation":
                self._stop(call)
            case "load_model":
                self._load(call, decode(message, ModelMessage), alone=alone)
            case "unload_model":
                self._unload(call, decode(message, ModelMessage).model_id)
            case "pull_model":
                self._pull(call, decode(message, PullMessage), alone=alone)
            case "delete_model":
                self._delete(call, decode(message, ModelMessage).model_id)
            case "get_model_state":
                self._show_state(call, decode(message, ModelMessage).model_id)
            case "list_loaded_models":
                self._list(call, {ModelState.READY})
            case "get_registered_models":
                self._list(call, set(ModelState))
            case "get_params":
                call.succeed({"settings": self._all_settings()})
            case "set_params" | "update_settings":
                self._set(call, decode(message, SettingsMessage).settings)
            case "get_system_info":
                self._ask(call, DescribeSystem(new_id("ext_")), _show_system)
            case "query_resources":
                self._ask(call, DescribeSystem(new_id("ext_")), _show_resources)
            case action if action in UNSUPPORTED:
                raise RequestError("not_supported", f"{action} is not supported")
            case unknown:
                raise ProtocolError("unknown_type", f"there is no action {unknown!r}")

    def _ask(
        self,
        call: Call,
        request: DescribeSystem | ListModels | UnloadModel | DeleteModel,
        answer: Callable[[Call, Any], object],
    ) -> None:
        self._commands[request.request_id] = _Command(call, answer)
        self._requests.append(request)

    def _generate(self, call: Call, message: GenerateMessage, *, alone: bool) -> None:
        self.principal.require("infer")
        given = {} if message.settings is None else message.settings.given()
        settings = self._settings | given
        request = generate_request(new_id("ext_"), message, settings, self.principal)
        whole = alone or message.stream is False
        generation = Generation(call, whole=whole, clock=self._clock)
        self._generations[request.request_id] = generation
        self._requests.append(request)

    def _stop(self, call: Call) -> None:
        wanted = next((name for name in ("requestId", "messageId") if name in call.ids), None)
        if wanted is None:
            raise invalid("requestId", "name the generation by its requestId or messageId")
        running: dict[str, Generation | Pull] = {**self._generations, **self._pulls}
        found = [
            request_id
            for request_id, each in running.items()
            if each.call.ids.get(wanted) == call.ids[wanted]
        ]
        if not found:
            text = f"no generation with the {wanted} {call.ids[wanted]!r} is running"
            raise RequestError("response_not_found", text, param=wanted)
        self._requests += [CancelRequest(request_id) for request_id in found]
        call.succeed({})

    def _set(self, call: Call, settings: Settings) -> None:
        wanted = self._settings | settings.given()
        generate_request("", GenerateMessage(prompt=""), wanted, self.principal)
        self._settings = wanted
        call.succeed({"settings": self._all_settings()})

    def _all_settings(self) -> dict[str, Any]:
        return {name: self._settings.get(name) for name in Settings.__struct_fields__}

    def _load(self, call: Call, message: ModelMessage, *, alone: bool) -> None:
        self.principal.require("manage")
        model = message.model_id
        if model is None:
            raise invalid("modelPath", "this field is required")
        request = LoadModel(new_id("ext_"), model)
        self._loading[request.request_id] = _Loading(call, model, alone)
        self._requests.append(request)

    def _tell_progress(self, event: ModelStateChanged) -> None:
        if event.state is not ModelState.LOADING:
            return
        for loading in self._loading.values():
            if loading.model == event.model and not loading.quiet:
                status = "progress" if loading.begun else "initiate"
                loading.begun = True
                _tell_loading(loading, status, event.progress)

    def _end_loading(self, loading: _Loading, event: Event) -> None:
        call = loading.call
        if isinstance(event, Failed):
            if loading.begun:
                reason = {"code": event.error.code, "error": event.error.message}
                _tell_loading(loading, "error", 0.0, **reason)
            call.fail(event.error)
            return
        assert isinstance(event, ModelsListed)
        [model] = event.models
        ready = {
            "backend": model.backend,
            "modelPath": model.id,
            "executionProvider": model.device,
        }
        if not loading.quiet:
            size = model.size_bytes
            _tell_loading(loading, "done", 1.0, loaded=size, total=size)
            call.tell("workerReady", ready)
        call.succeed({"isReady": True, **ready})

    def _unload(self, call: Call, model_id: str | None) -> None:
        self.principal.require("manage")
        if model_id is not None:
            self._ask(call, UnloadModel(new_id("ext_"), model_id), _show_unloaded)
            return

        def unload_default(call: Call, event: ModelsListed) -> None:
            model = _default_model(event.models)
            if model is None:
                call.fail(RequestError("model_not_found", "no model is loaded"))
            else:
                self._ask(call, UnloadModel(new_id("ext_"), model.id), _show_unloaded)

        self._ask(call, ListModels(new_id("ext_")), unload_default)

    def _pull(self, call: Call, message: PullMessage, *, alone: bool) -> None:
        self.principal.require("manage")
        request = PullModel(new_id("ext_"), message.reference())
        self._pulls[request.request_id] = Pull(call, alone)
        self._requests.append(request)

    def _delete(self, call: Call, model_id: str | None) -> None:
        self.principal.require("manage")
        if model_id is None:
            raise invalid("model", "this field is required")
        self._ask(call, DeleteModel(new_id("ext_"), model_id), _show_deleted)

    def _show_state(self, call: Call, model_id: str | None) -> None:
        def show(call: Call, event: ModelsListed) -> None:
            if model_id is None:
                model = _default_model(event.models)
            else:
                model = next((each for each in event.models if each.id == model_id), None)
                if model is None:
                    text = f"there is no model {model_id!r}"
                    call.fail(RequestError("model_not_found", text, param="model"))
                    return
            call.succeed(
                {
                    "isReady": model is not None and model.state is ModelState.READY,
                    "backend": model and model.backend,
                    "modelPath": model and model.id,
                }
            )

        self._ask(call, ListModels(new_id("ext_")), show)

    def _list(self, call: Call, states: set[ModelState]) -> None:
        def show(call: Call, event: ModelsListed) -> None:
            models = [model_object(model) for model in event.models if model.state in states]
            call.succeed({"models": models})

        self._ask(call, ListModels(new_id("ext_")), show)


def _default_model(models: tuple[ModelStatus, ...]) -> ModelStatus | None:
    """The model that requests without one go to."""
    usable = {ModelState.READY, ModelState.LOADING}
    return next((model for model in models if model.state in usable), None)


def _tell_loading(loading: _Loading, status: str, progress: float, **more: object) -> None:
    percent = round(progress * 100, 1)
    sizes = {"loaded": None, "total": None}
    payload = {"status": status, "file": loading.model, "progress": percent, **sizes, **more}
    loading.call.tell("modelWorkerLoadingProgress", payload)


def _show_unloaded(call: Call, event: ModelsListed) -> None:
    [model] = event.models
    call.succeed({"isReady": False, "backend": model.backend, "modelPath": model.id})


def _show_deleted(call: Call, event: ModelsListed) -> None:
    call.succeed({})


def _show_system(call: Call, event: SystemDescribed) -> None:
    call.succeed(event.system)


def _show_resources(call: Call, event: SystemDescribed) -> None:
    call.succeed({name: event.system.get(name) for name in RESOURCES})
