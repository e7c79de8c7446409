"""The OpenAI Realtime dialect, text only, on a duplex connection: session, items, responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct, field

from tabagent.core.errors import ProtocolError, RequestError, TabagentError
from tabagent.core.events import (
    TERMINAL_EVENTS,
    Failed,
    ModelStateChanged,
    Queued,
    RequestEvent,
    TextDelta,
)
from tabagent.core.protocol import Protocol
from tabagent.core.requests import CancelRequest, GenerateRequest, Message

from .realtime_conversation import Conversation, GivenItem, item_of
from .realtime_objects import (
    ItemDeletedEvent,
    ItemEvent,
    ItemRetrievedEvent,
    PongEvent,
    QueueState,
    RateLimit,
    RateLimitsEvent,
    RealtimeResponse,
    SessionEvent,
    model_state_event,
    realtime_error,
)
from .realtime_session import ResponseFields, Session, SessionFields, blamed_in
from .realtime_writer import Outbox, RealtimeWriter
from .wire import decode, invalid, new_id, not_supported, renamed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tabagent.core.events import Event
    from tabagent.core.requests import Principal

__all__ = ["AUDIO_EVENTS", "MAX_OPEN_RESPONSES", "RealtimeProtocol"]

MAX_OPEN_RESPONSES = 64
"""Responses of one connection that run or wait."""

MAX_EVENT_ID_CHARS = 512

AUDIO_EVENTS = frozenset(
    {
        "conversation.item.truncate",
        "input_audio_buffer.append",
        "input_audio_buffer.clear",
        "input_audio_buffer.commit",
        "output_audio_buffer.clear",
        "transcription_session.update",
    }
)


class Envelope(Struct):
    """What every client event has."""

    type: str | None = None
    event_id: str | None = None


class SessionUpdate(Struct):
    """`session.update`."""

    session: SessionFields


class ItemCreate(Struct):
    """`conversation.item.create`; `previous_item_id` is an item or `root`, by default the last."""

    item: GivenItem
    previous_item_id: str | None = None


class ItemName(Struct):
    """`conversation.item.retrieve` and `conversation.item.delete`."""

    item_id: str


class ResponseCreate(Struct):
    """`response.create`."""

    response: ResponseFields | None = field(default_factory=ResponseFields)


class ResponseCancel(Struct):
    """`response.cancel`; without an id, of the response that writes to the conversation."""

    response_id: str | None = None


class _Turn:
    """A response that runs or waits, and the client's event that asked for it."""

    def __init__(self, writer: RealtimeWriter, event_id: str | None, *, in_band: bool) -> None:
        self.writer = writer
        self.event_id = event_id
        self.in_band = in_band


class RealtimeProtocol(Protocol):
    """One session of the Realtime dialect.

    Rules:

    1. `session.created` comes first, unasked.
    2. One response at a time writes to the conversation; others (`conversation: "none"`) run
       beside it and are told apart by their `metadata` and ids.
    3. A response begins with `response.created`, when the engine accepts it, and ends with
       `response.done`. One that is refused gets an `error` instead.
    4. An `error` names the client's event to blame by its `event_id`.
    """

    name: ClassVar[str] = "realtime"

    def __init__(self, principal: Principal) -> None:
        super().__init__(principal)
        self._session = Session()
        self._conversation = Conversation()
        self._outbox = Outbox(self._messages)
        self._turns: dict[str, _Turn] = {}
        self._told: dict[str, ModelStateChanged] = {}  # the state of each model the peer knows

    def open(self, opening: Mapping[str, Any]) -> None:
        """Begin with the session object that the peer gave when it connected."""
        refusal: TabagentError | None = None
        try:
            with blamed_in("session"):
                self._session = Session.opened(opening)
        except TabagentError as error:
            refusal = error
        self._outbox.put(SessionEvent("session.created", self._session.as_object()))
        if refusal is not None:
            self._outbox.put(realtime_error(refusal, None))

    def receive_message(self, message: str | bytes) -> None:
        """Take one whole message from the peer; bytes are a binary frame."""
        event_id: str | None = None
        try:
            if isinstance(message, bytes):
                raise ProtocolError("invalid_message", "messages are text frames, not binary ones")
            envelope = decode(message, Envelope)
            if envelope.event_id is not None and len(envelope.event_id) > MAX_EVENT_ID_CHARS:
                raise invalid("event_id", f"has at most {MAX_EVENT_ID_CHARS} characters")
            event_id = envelope.event_id
            self._take(message, envelope)
        except TabagentError as error:
            self._outbox.put(realtime_error(error, event_id))

    def request_accepted(self, request_id: str, model: str) -> None:
        """Write `response.created`, before the request waits for a model or a slot."""
        del model  # the session names it
        self._turns[request_id].writer.open()
        self._tell_queue(request_id, 0)

    def send_event(self, event: Event) -> None:
        """Take one event of a request that this protocol handed out, or of a model."""
        if isinstance(event, TextDelta):  # first, for there are thousands a second
            self._turns[event.request_id].writer.send_event(event)
        elif isinstance(event, ModelStateChanged):
            self._tell_model_state(event)
        else:
            self._tell_response(event)

    def _take(self, message: str, envelope: Envelope) -> None:
        match envelope.type:
            case "session.update":
                self._update_session(decode(message, SessionUpdate))
            case "conversation.item.create":
                self._create_item(decode(message, ItemCreate))
            case "conversation.item.retrieve":
                item = self._conversation.item(decode(message, ItemName).item_id)
                self._outbox.put(ItemRetrievedEvent(item))
            case "conversation.item.delete":
                item_id = decode(message, ItemName).item_id
                self._conversation.delete(item_id)
                self._outbox.put(ItemDeletedEvent(item_id))
            case "response.create":
                fields = decode(message, ResponseCreate).response or ResponseFields()
                self._create_response(fields, envelope.event_id)
            case "response.cancel":
                self._cancel(decode(message, ResponseCancel).response_id)
            case "tabagent.ping":
                self._outbox.put(PongEvent())
            case "tabagent.pong":
                pass
            case kind if kind in AUDIO_EVENTS:
                raise not_supported("type", f"{kind!r} needs audio, and this server has text only")
            case None:
                raise ProtocolError("invalid_message", "an event needs a type", param="type")
            case unknown:
                text = f"there is no event type {unknown!r}"
                raise ProtocolError("unknown_type", text, param="type")

    def _update_session(self, message: SessionUpdate) -> None:
        with blamed_in("session"):
            self._session.update(message.session)
        self._outbox.put(SessionEvent("session.updated", self._session.as_object()))

    def _create_item(self, message: ItemCreate) -> None:
        item = item_of(message.item, "item")
        previous = self._conversation.insert(item, message.previous_item_id)
        self._outbox.put(ItemEvent("conversation.item.added", item, previous))
        self._outbox.put(ItemEvent("conversation.item.done", item, previous))

    def _create_response(self, fields: ResponseFields, event_id: str | None) -> None:
        self.principal.require("infer")
        with blamed_in("response"):
            fields.check()
            if fields.in_band and any(turn.in_band for turn in self._turns.values()):
                text = "another response is writing to the conversation; cancel it or wait"
                raise invalid("conversation", text)
            if fields.in_band:
                self._conversation.require_room()
            if len(self._turns) >= MAX_OPEN_RESPONSES:
                raise RequestError("overloaded", f"{MAX_OPEN_RESPONSES} responses are open already")
            request = self._request(fields)
        response = RealtimeResponse(
            id=request.request_id,
            conversation_id=self._conversation.id if fields.in_band else None,
            output_modalities=["text"],
            max_output_tokens=fields.max_output_tokens or self._session.max_output_tokens,
            metadata=fields.metadata,
        )
        writer = RealtimeWriter(
            response,
            self._outbox,
            self._conversation if fields.in_band else None,
            token_ids=bool(self._session.extras(fields).return_token_ids),
        )
        self._turns[request.request_id] = _Turn(writer, event_id, in_band=fields.in_band)
        self._requests.append(request)

    def _request(self, fields: ResponseFields) -> GenerateRequest:
        session, extras = self._session, self._session.extras(fields)
        instructions = fields.instructions
        if instructions is None:
            instructions = session.instructions
        if fields.input is None:
            turns = self._conversation.messages()
        else:
            turns = self._conversation.resolve(fields.input)
        system = [Message("system", instructions)] if instructions else []
        max_tokens = fields.max_output_tokens or session.max_output_tokens
        with renamed(messages="input", max_tokens="max_output_tokens", stop="tabagent.stop"):
            return GenerateRequest(
                request_id=new_id("resp_"),
                model=extras.model or session.model,
                messages=(*system, *turns),
                truncate=session.truncation == "auto",
                max_tokens=None if max_tokens == "inf" else max_tokens,
                stop=extras.stop_strings(),
                sampling=extras.sampling(),
                principal=self.principal,
            )

    def _cancel(self, response_id: str | None) -> None:
        for request_id, turn in self._turns.items():
            if request_id == response_id or (response_id is None and turn.in_band):
                turn.writer.cancelled = True
                self._requests.append(CancelRequest(request_id))
                return
        text = "there is no such response, or it has ended"
        if response_id is None:
            text = "no response is writing to the conversation"
        raise RequestError("response_not_found", text, param="response_id")

    def _tell_response(self, event: Event) -> None:
        assert isinstance(event, RequestEvent)
        turn = self._turns[event.request_id]
        if isinstance(event, TERMINAL_EVENTS):
            del self._turns[event.request_id]
        if isinstance(event, Queued):
            self._tell_queue(event.request_id, event.position)
        elif isinstance(event, Failed) and not turn.writer.opened:
            self._outbox.put(realtime_error(event.error, turn.event_id))
        else:
            turn.writer.send_event(event)

    def _tell_queue(self, response_id: str, position: int) -> None:
        limit = RateLimit(MAX_OPEN_RESPONSES, MAX_OPEN_RESPONSES - len(self._turns))
        self._outbox.put(RateLimitsEvent([limit], QueueState(response_id, position)))

    def _tell_model_state(self, event: ModelStateChanged) -> None:
        """Tell peers that wait for a model; others might mistake it for an answer."""
        waited_for = any(turn.writer.opened for turn in self._turns.values())
        if waited_for and self._told.get(event.model) != event:
            self._told[event.model] = event
            self._outbox.put(model_state_event(event))
