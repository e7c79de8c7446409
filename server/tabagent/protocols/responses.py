"""The Responses dialect on a duplex connection: lanes, cancelling, models."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, ClassVar

from msgspec import UNSET, Struct, UnsetType

from tabagent.core.errors import ProtocolError, RequestError, TabagentError
from tabagent.core.events import (
    TERMINAL_EVENTS,
    DownloadProgress,
    Failed,
    Finished,
    ModelsListed,
    ModelStateChanged,
    Recorded,
    RequestEvent,
    TextDelta,
)
from tabagent.core.protocol import Protocol
from tabagent.core.requests import (
    CancelRecorded,
    CancelRequest,
    DeleteModel,
    ListModels,
    LoadModel,
    PullModel,
    RecordRequest,
    ResumeRequest,
    UnloadModel,
)

from .answer_fields import model_object
from .response_objects import (
    ErrorEvent,
    ModelChangedEvent,
    ModelDeletedEvent,
    ModelListEvent,
    PongEvent,
    PullEvent,
    PullProgressEvent,
    model_state_event,
)
from .response_request import ResponseRequest, generate_request
from .response_writer import ResponseWriter
from .wire import decode, encode, error_object, invalid, new_id, not_supported

if TYPE_CHECKING:
    from tabagent.core.events import Event
    from tabagent.core.requests import GenerateRequest, Principal

__all__ = ["MAX_LANE_QUEUE", "MAX_OPEN_RESPONSES", "ResponsesProtocol"]

MAX_LANE_QUEUE = 16
"""Responses that may wait in one lane."""

MAX_OPEN_RESPONSES = 64
"""Responses of one connection that run or wait."""


class Envelope(Struct):
    """What every message of a duplex connection has."""

    type: str | None = None
    stream_id: str | None = None


class CancelMessage(Struct):
    """`response.cancel`: one response, or all of one lane."""

    response_id: str | None = None
    stream_id: str | None = None


class ResumeMessage(Struct):
    """`response.resume`: go on after the event with this number; -1 starts at the first."""

    response_id: str
    starting_after: int = -1


class ModelMessage(Struct):
    """`tabagent.model.load`, `.unload`, `.pull` and `.delete`."""

    model: str


class _Pull(Struct):
    """A download that runs: what is downloaded, and the lane in which it was asked for."""

    reference: str
    lane: str | None


class _Turn:
    """A response that runs, or waits for its turn in a lane."""

    def __init__(
        self, request: GenerateRequest, writer: ResponseWriter, body: ResponseRequest
    ) -> None:
        self.request = request
        self.writer = writer
        self.stream_id = body.stream_id
        self.resumable = bool(body.tabagent and body.tabagent.resumable)
        self.cancelled = False


class ResponsesProtocol(Protocol):
    """The Responses dialect on a connection that carries any number of requests.

    Rules:

    1. A response belongs to the lane that its `stream_id` names; without one, to the default
       lane. The responses of a lane run first in, first out; lanes run in parallel.
    2. `response.created` is the first event of a response. It comes when the engine accepts the
       request, which is asked for when the lane is free.
    3. A request that is refused gets an `error` with its `stream_id`, and no response.
    4. Cancelling a lane ends what runs in it and all that waits in it.
    5. A resumable response is written elsewhere and passed on as it is, here and wherever it is
       resumed; where it is resumed it belongs to no lane.
    """

    name: ClassVar[str] = "responses"

    def __init__(self, principal: Principal) -> None:
        super().__init__(principal)
        self._lanes: dict[str | None, deque[_Turn]] = {}  # the first turn of each runs
        self._running: dict[str, _Turn] = {}
        self._resumed: dict[str, Envelope] = {}  # what resumed each response
        self._commands: dict[str, Envelope] = {}
        self._pulls: dict[str, _Pull] = {}
        self._told: dict[str, ModelStateChanged] = {}  # the state of each model the peer knows

    def receive_message(self, message: str | bytes) -> None:
        """Take one whole message from the peer; bytes are a binary frame."""
        envelope: Envelope | None = None
        try:
            if isinstance(message, bytes):
                raise ProtocolError("invalid_message", "messages are text frames, not binary ones")
            envelope = decode(message, Envelope)
            self._take(message, envelope)
        except TabagentError as error:
            self._refuse(error, envelope.stream_id if envelope else None)

    def request_accepted(self, request_id: str, model: str) -> None:
        """Write `response.created`, before the request waits for a model or a slot."""
        self._running[request_id].writer.open(model)

    def send_event(self, event: Event) -> None:
        """Take one event of a request that this protocol handed out, or of a model."""
        if isinstance(event, TextDelta):  # first, for there are thousands a second
            self._running[event.request_id].writer.send_event(event)
        elif isinstance(event, ModelStateChanged):
            self._tell_model_state(event)
        elif isinstance(event, Recorded):
            self._pass_on(event)
        elif event.request_id in self._resumed:
            self._end_resumed(event)
        elif event.request_id in self._commands:
            self._answer_command(self._commands.pop(event.request_id), event)
        elif event.request_id in self._pulls:
            self._tell_pull(event)
        else:
            self._tell_response(self._running[event.request_id], event)

    def _take(self, message: str, envelope: Envelope) -> None:
        match envelope.type:
            case "response.create":
                self._create(decode(message, ResponseRequest))
            case "response.cancel":
                self._cancel(decode(message, CancelMessage), envelope)
            case "response.resume":
                self._resume(decode(message, ResumeMessage), envelope)
            case "tabagent.model.list":
                self._command(envelope, ListModels(new_id("models_")))
            case "tabagent.model.load":
                model = decode(message, ModelMessage).model
                self._command(envelope, LoadModel(new_id("models_"), model))
            case "tabagent.model.unload":
                model = decode(message, ModelMessage).model
                self._command(envelope, UnloadModel(new_id("models_"), model))
            case "tabagent.model.delete":
                model = decode(message, ModelMessage).model
                self._command(envelope, DeleteModel(new_id("models_"), model))
            case "tabagent.model.pull":
                self._pull(decode(message, ModelMessage).model, envelope.stream_id)
            case "tabagent.ping":
                self._messages.append(encode(PongEvent(_lane(envelope.stream_id))))
            case "tabagent.pong":
                pass
            case "tabagent.chunk":
                raise not_supported("type", f"{envelope.type!r} is not supported here")
            case None:
                raise ProtocolError("invalid_message", "a message needs a type", param="type")
            case unknown:
                text = f"there is no message type {unknown!r}"
                raise ProtocolError("unknown_type", text, param="type")

    def _create(self, body: ResponseRequest) -> None:
        self.principal.require("infer")
        request = generate_request(body, new_id("resp_"), self.principal)
        writer = ResponseWriter(body, request.request_id, self._messages, tabagent_events=True)
        turn = _Turn(request, writer, body)
        self._require_room()
        lane = self._lanes.setdefault(body.stream_id, deque())
        if len(lane) > MAX_LANE_QUEUE:
            raise RequestError("overloaded", f"{MAX_LANE_QUEUE} responses wait in this lane")
        lane.append(turn)
        if len(lane) == 1:
            self._run(turn)

    def _run(self, turn: _Turn) -> None:
        self._running[turn.request.request_id] = turn
        if turn.resumable:
            self._requests.append(RecordRequest(turn.request, turn.writer))
        else:
            self._requests.append(turn.request)

    def _resume(self, message: ResumeMessage, envelope: Envelope) -> None:
        response_id = message.response_id
        if response_id in self._running or response_id in self._resumed:
            raise invalid("response_id", f"{response_id!r} streams on this connection already")
        self._require_room()
        self._resumed[response_id] = envelope
        self._requests.append(ResumeRequest(response_id, message.starting_after))

    def _require_room(self) -> None:
        if len(self._resumed) + sum(map(len, self._lanes.values())) >= MAX_OPEN_RESPONSES:
            raise RequestError("overloaded", f"{MAX_OPEN_RESPONSES} responses are already open")

    def _pass_on(self, event: Recorded) -> None:
        self._messages += event.messages
        if event.ended and event.request_id in self._running:
            self._end(self._running[event.request_id])
        elif event.ended:
            self._resumed.pop(event.request_id, None)
            self._commands.pop(event.request_id, None)

    def _end_resumed(self, event: Event) -> None:
        assert isinstance(event, Failed)
        envelope = self._resumed.pop(event.request_id)
        self._refuse(event.error, envelope.stream_id)

    def _tell_response(self, turn: _Turn, event: Event) -> None:
        if isinstance(event, Failed) and not turn.writer.opened:
            self._refuse(event.error, turn.stream_id)
        else:
            turn.writer.send_event(event)
        if isinstance(event, TERMINAL_EVENTS):
            self._end(turn)

    def _end(self, turn: _Turn) -> None:
        del self._running[turn.request.request_id]
        lane = self._lanes[turn.stream_id]
        lane.popleft()
        while lane and lane[0].cancelled:
            lane.popleft().writer.cancel()
        if lane:
            self._run(lane[0])
        else:
            del self._lanes[turn.stream_id]

    def _cancel(self, message: CancelMessage, envelope: Envelope) -> None:
        response_id = message.response_id
        if response_id is not None:
            if response_id in self._running or response_id in self._resumed:
                self._requests.append(CancelRequest(response_id))
            else:
                self._command(envelope, CancelRecorded(response_id))
            return
        lane = self._lanes.get(message.stream_id, ())
        running = [lane[0].request.request_id] if lane else []
        running += [key for key, pull in self._pulls.items() if pull.lane == message.stream_id]
        if not running:
            raise RequestError(
                "response_not_found", "nothing is running in this lane", param="stream_id"
            )
        for turn in lane:
            turn.cancelled = True
        self._requests += map(CancelRequest, running)

    def _command(
        self,
        envelope: Envelope,
        request: ListModels | LoadModel | UnloadModel | DeleteModel | CancelRecorded,
    ) -> None:
        if isinstance(request, LoadModel | UnloadModel):
            self.principal.require("manage")
        self._commands[request.request_id] = envelope
        self._requests.append(request)

    def _pull(self, reference: str, lane: str | None) -> None:
        self.principal.require("manage")
        request = PullModel(new_id("models_"), reference)
        self._pulls[request.request_id] = _Pull(reference, lane)
        self._requests.append(request)

    def _tell_pull(self, event: Event) -> None:
        assert isinstance(event, RequestEvent)
        pull = self._pulls[event.request_id]
        if isinstance(event, DownloadProgress):
            file, done, total = event.file, event.done, event.total
            progress = PullProgressEvent(pull.reference, file, done, total, _lane(pull.lane))
            self._messages.append(encode(progress))
            return
        del self._pulls[event.request_id]
        if isinstance(event, Failed):
            self._refuse(event.error, pull.lane)
        elif isinstance(event, Finished):
            self._messages.append(encode(PullEvent("cancelled", stream_id=_lane(pull.lane))))
        else:
            assert isinstance(event, ModelsListed)
            model = model_object(event.models[0])
            self._messages.append(encode(PullEvent("completed", model, _lane(pull.lane))))

    def _answer_command(self, envelope: Envelope, event: Event) -> None:
        lane = _lane(envelope.stream_id)
        if isinstance(event, Failed):
            self._refuse(event.error, envelope.stream_id)
            return
        assert isinstance(event, ModelsListed)
        models = [model_object(status) for status in event.models]
        answer: ModelListEvent | ModelChangedEvent | ModelDeletedEvent
        match envelope.type:
            case "tabagent.model.list":
                answer = ModelListEvent(models, lane)
            case "tabagent.model.delete":
                answer = ModelDeletedEvent(lane)
            case _:
                answer = ModelChangedEvent(str(envelope.type), models[0], lane)
        self._messages.append(encode(answer))

    def _tell_model_state(self, event: ModelStateChanged) -> None:
        """Tell peers that wait for a model; others might mistake it for an answer."""
        writers = [turn.writer for turn in self._running.values()]
        waited_for = any(writer.opened and writer.tabagent_events for writer in writers)
        waited_for = waited_for or bool(self._resumed or self._commands or self._pulls)
        if waited_for and self._told.get(event.model) != event:
            self._told[event.model] = event
            self._messages.append(encode(model_state_event(event)))

    def _refuse(self, error: TabagentError, stream_id: str | None) -> None:
        self._messages.append(encode(ErrorEvent(error_object(error), _lane(stream_id))))


def _lane(stream_id: str | None) -> str | UnsetType:
    return UNSET if stream_id is None else stream_id
