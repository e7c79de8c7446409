"""The Responses dialect as one HTTP exchange: server-sent events, or the whole response."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tabagent.core.events import Failed, ModelStateChanged

from .exchange import Exchange
from .response_objects import model_state_event
from .response_request import ResponseRequest, generate_request
from .response_writer import ResponseWriter
from .wire import decode, encode, new_id, not_supported

if TYPE_CHECKING:
    from tabagent.core.errors import TabagentError
    from tabagent.core.events import Event
    from tabagent.core.requests import GenerateRequest, Principal

__all__ = ["ResponsesExchange"]


class ResponsesExchange(Exchange):
    """One `POST /v1/responses`."""

    name = "responses"

    def __init__(self, principal: Principal) -> None:
        super().__init__(principal)
        self._writer: ResponseWriter | None = None

    def request_accepted(self, request_id: str, model: str) -> None:
        """Write `response.created`, before the request waits for a model or a slot."""
        del request_id
        self._response.open(model)
        self._drop_unless_streamed()

    def send_event(self, event: Event) -> None:
        """Take one event of the request, or of a model while the request waits."""
        if isinstance(event, ModelStateChanged):
            if self._response.opened and self._response.tabagent_events:
                self._messages.append(encode(model_state_event(event)))
        else:
            self._response.send_event(event)
            if isinstance(event, Failed):
                self.error = event.error
        self._drop_unless_streamed()

    def answer(self) -> str:
        """Return the response object as JSON text."""
        return encode(self._response.response)

    def server_sent_event(self, message: str) -> str:
        """Return the text that carries one message, with its type as the event's name."""
        name = message[len('{"type":"') : message.index('"', len('{"type":"'))]
        return f"event: {name}\ndata: {message}\n\n"

    @property
    def wants_model_changes(self) -> bool:
        """Whether the body asks for the `tabagent.*` events."""
        return self._response.tabagent_events

    @property
    def _response(self) -> ResponseWriter:
        if self._writer is None:
            raise RuntimeError("there is no request")
        return self._writer

    def _read(self, body: str | bytes) -> GenerateRequest:
        fields = decode(body, ResponseRequest)
        self.stream = bool(fields.stream)
        if fields.tabagent and fields.tabagent.resumable:
            text = "responses are resumable on duplex connections only"
            raise not_supported("tabagent.resumable", text)
        request = generate_request(fields, new_id("resp_"), self.principal)
        self._writer = ResponseWriter(
            fields, request.request_id, self._messages, tabagent_events=False
        )
        return request

    def _drop_unless_streamed(self) -> None:
        if not self.stream:
            self._messages.clear()

    def _fail(self, error: TabagentError) -> None:
        self.error = error
