"""The sans-I/O mapping between one connection's wire messages and requests and events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .events import Event
    from .requests import Principal, Request

__all__ = ["AnswerWriter", "Protocol"]

T = TypeVar("T")


class AnswerWriter(ABC):
    """Writes the messages of one answer in a wire dialect. Does no I/O."""

    @abstractmethod
    def write_to(self, write: Callable[[str], object], remark: Callable[[str], object]) -> None:
        """Hand over messages from now on: numbered ones to `write`, others to `remark`.

        Numbers start at 0 and have no gaps.
        """

    @abstractmethod
    def open(self, model: str) -> None:
        """Take note that the request was admitted to a model, before its first event."""

    @abstractmethod
    def send_event(self, event: Event) -> None:
        """Take one event of the request."""


class Protocol(ABC):
    """One connection's side of a wire dialect. Does no I/O and keeps no clock.

    The owner feeds it with `receive_message` and `send_event`, and after each call drains
    `requests_received` and `messages_to_send`.

    Guarantees:

    * Bad peer input never raises: it becomes an error message, and the connection lives on.
    * Every request handed out has a `request_id` unique within the process.
    * Messages are whole JSON texts in the order in which the peer must see them.
    """

    name: ClassVar[str]

    def __init__(self, principal: Principal) -> None:
        """Begin with nothing to do: a dialect adds to `_requests` and to `_messages`."""
        self.principal = principal
        self._requests: list[Request] = []
        self._messages: list[str] = []

    def open(self, opening: Mapping[str, Any]) -> None:
        """Begin, before the first message; `opening` is what the peer asked for on connecting."""
        return

    @abstractmethod
    def receive_message(self, message: str | bytes) -> None:
        """Take one whole message from the peer; bytes are a binary frame."""

    def request_accepted(self, request_id: str, model: str) -> None:
        """Take note that the engine admitted a `GenerateRequest`, before its first event.

        `model` is the id of the model that will answer; the request may have named none. A refused
        one gets `send_event(Failed)` instead, so a dialect may tell both apart.
        """
        return

    @abstractmethod
    def send_event(self, event: Event) -> None:
        """Take one event of a request that this protocol handed out, or of a model."""

    def requests_received(self) -> list[Request]:
        """Return, once each, the requests to carry out now."""
        return _drain(self._requests)

    def messages_to_send(self) -> list[str]:
        """Return, once each, the messages to send now."""
        return _drain(self._messages)


def _drain(items: list[T]) -> list[T]:
    # The list stays the same one: writers of answers hold on to it.
    drained = items.copy()
    items.clear()
    return drained
