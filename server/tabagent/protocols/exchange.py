"""A dialect whose connection carries one request and its answer, as an HTTP exchange does."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from tabagent import __version__
from tabagent.core.errors import TabagentError
from tabagent.core.events import Failed, Finished, Started, TextDelta
from tabagent.core.protocol import Protocol

from .wire import ErrorBody, encode, error_object

if TYPE_CHECKING:
    from tabagent.core.events import Event, TokenLogprob
    from tabagent.core.requests import GenerateRequest, Principal

__all__ = ["FINGERPRINT", "CompletionExchange", "Exchange"]

FINGERPRINT = f"tabagent-{__version__}"
"""What OpenAI's `system_fingerprint` says: the version that made the answer."""


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


class CompletionExchange(Exchange):
    """What both kinds of completion have in common.

    A stream is an opening, a chunk per delta, and a closing; without one, the deltas are kept
    for the whole answer.
    """

    end_of_stream = "data: [DONE]\n\n"

    def __init__(self, principal: Principal) -> None:
        super().__init__(principal)
        self._model = ""
        self._seed: int | None = None
        self._prompt_ids: tuple[int, ...] | None = None
        self._opened = False
        self._texts: list[str] = []
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._finished: Finished | None = None

    def send_event(self, event: Event) -> None:
        """Take one event of the request."""
        if isinstance(event, TextDelta):
            if self.stream:
                self._open()
                self._messages += self._delta(event)
            else:
                self._texts.append(event.text)
                self._tokens += event.tokens
                self._logprobs += event.logprobs
        elif isinstance(event, Started):
            self._model, self._seed, self._prompt_ids = event.model, event.seed, event.prompt
            self._open()
        elif isinstance(event, Finished):
            self._open()
            self._finished = event
            if self.stream:
                self._messages += self._closing(event)
        elif isinstance(event, Failed):
            self._fail(event.error)

    def answer(self) -> str:
        """Return the whole answer as JSON text, once the request is finished."""
        if self._finished is None:
            raise RuntimeError("the request is not finished")
        return self._whole(self._finished)

    def _open(self) -> None:
        if self.stream and not self._opened:
            self._opened = True
            self._messages += self._opening()

    @abstractmethod
    def _opening(self) -> list[str]:
        """Return the messages before the first delta."""

    @abstractmethod
    def _delta(self, event: TextDelta) -> list[str]:
        """Return the messages for more of the answer."""

    @abstractmethod
    def _closing(self, event: Finished) -> list[str]:
        """Return the messages after the last delta."""

    @abstractmethod
    def _whole(self, event: Finished) -> str:
        """Return the answer of a request without a stream."""
