"""A client of the Realtime dialect, to talk to one session under test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tabagent.core.events import TextDelta
from tabagent.core.requests import LOCAL
from tabagent.protocols.realtime import RealtimeProtocol

from tests.protocols.peer import Peer, types

if TYPE_CHECKING:
    from tabagent.core.requests import GenerateRequest, Principal

CREATE: dict[str, Any] = {"type": "response.create"}
OUT_OF_BAND: dict[str, Any] = {"conversation": "none"}
WHOLE = [
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
]


class Client(Peer):
    """A client of one session, whose greeting it has heard."""

    def __init__(self, principal: Principal = LOCAL, **opening: Any) -> None:
        super().__init__(RealtimeProtocol(principal))
        self.protocol.open(opening)
        self.greeting = self.hear()

    def update(self, **session: Any) -> list[dict[str, Any]]:
        return self.say({"type": "session.update", "session": {"type": "realtime", **session}})

    def add(self, text: str, role: str = "user", **fields: Any) -> list[dict[str, Any]]:
        """Put a message into the conversation."""
        kind = "output_text" if role == "assistant" else "input_text"
        item = {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
        item |= {name: fields.pop(name) for name in ("id", "content", "type") if name in fields}
        return self.say({"type": "conversation.item.create", "item": item, **fields})

    def create(self, **response: Any) -> GenerateRequest:
        """Ask for a response that the engine accepts."""
        request = self.ask(CREATE | {"response": response})
        assert types(self.accept(request)) == ["response.created", "rate_limits.updated"]
        return request

    def error(self, message: dict[str, Any] | str | bytes) -> dict[str, Any]:
        """Send an event that must be refused."""
        [answer] = self.say(message)
        assert answer["type"] == "error"
        assert self.requests() == []
        error: dict[str, Any] = answer["error"]
        return error


def delta(request: GenerateRequest, text: str, *tokens: int) -> TextDelta:
    return TextDelta(request.request_id, text, tokens)


def texts(request: GenerateRequest) -> list[tuple[str, str]]:
    assert request.messages is not None
    return [(message.role, message.content) for message in request.messages]
