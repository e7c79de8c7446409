"""A dialect whose connection carries one request and its answer, as an HTTP exchange does."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from tabagent.core.errors import TabagentError
from tabagent.core.protocol import Protocol

from .wire import ErrorBody, encode, error_object

if TYPE_CHECKING:
    from tabagent.core.events import Event
    from tabagent.core.requests import GenerateRequest, Principal

__all__ = ["Exchange"]


class Exchange(Protocol):
    """One request body in; server-sent events or one whole JSON body out.

    Attributes:
        stream: Whether the body asks for events, which then are the messages; known once it has
            been received.
        error: Why there is no (whole) answer, if there is none.
        created: When the request came, in Unix seconds.
    """

    end_of_stream: ClassVar[str] = ""
    """What follows the last event of a stream."""

    def __init__(self, principal: Principal) -> None:
        super().__init__(principal)
        self.stream = False
        self.error: TabagentError | None = None
        self.created = int(time.time())

    def receive_message(self, message: str | bytes) -> None:
        """Take the request body; when it is refused, `error` says why."""
        try:
            self._requests.append(self._read(message))
        except TabagentError as error:
            self._fail(error)

    def server_sent_event(self, message: str) -> str:
        """Return the text that carries one message of `messages_to_send`."""
        return f"data: {message}\n\n"

    @property
    def wants_model_changes(self) -> bool:
        """Whether a stream tells what happens to the models meanwhile."""
        return False

    @abstractmethod
    def answer(self) -> str:
        """Return the whole answer as JSON text, once the request is finished."""

    @abstractmethod
    def send_event(self, event: Event) -> None:
        """Take one event of the request."""

    @abstractmethod
    def _read(self, body: str | bytes) -> GenerateRequest:
        """Return the request that `body` asks for, or raise `TabagentError`."""

    def _fail(self, error: TabagentError) -> None:
        self.error = error
        if self.stream:
            self._messages.append(encode(ErrorBody(error_object(error))))
