"""The other end of a protocol under test: speaks and hears JSON, and plays the engine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tabagent.core.events import Finished, FinishReason, Started, TextDelta, Timings, Usage
from tabagent.core.requests import GenerateRequest

if TYPE_CHECKING:
    from tabagent.core.errors import TabagentError
    from tabagent.core.events import Event
    from tabagent.core.protocol import Protocol
    from tabagent.core.requests import Request

USAGE = Usage(prompt_tokens=5, completion_tokens=2, cached_tokens=3)
TIMINGS = Timings(queued_ms=1.0, prompt_ms=4.0, decode_ms=8.0)


class Peer:
    """Talks to one protocol."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol

    def say(self, message: dict[str, Any] | str | bytes) -> list[dict[str, Any]]:
        """Send a message and return the answers that come at once."""
        if isinstance(message, dict):
            message = json.dumps(message)
        self.protocol.receive_message(message)
        return self.hear()

    def hear(self) -> list[dict[str, Any]]:
        return [json.loads(message) for message in self.protocol.messages_to_send()]

    def requests(self) -> list[Request]:
        return self.protocol.requests_received()

    def ask(self, message: dict[str, Any]) -> GenerateRequest:
        """Send a message that is a request and return what the protocol makes of it."""
        errors = self.say(message)
        requests = self.requests()
        assert not errors, errors
        assert len(requests) == 1
        assert isinstance(requests[0], GenerateRequest)
        return requests[0]

    def refusal(self, message: dict[str, Any] | str | bytes) -> tuple[str, str | None]:
        """Send a message that must be refused; return the error's code and the field to blame."""
        heard = self.say(message)
        assert self.requests() == []
        error: TabagentError | None = getattr(self.protocol, "error", None)
        if error is not None:
            return error.code, error.param
        [answer] = heard
        assert answer["type"] == "error"
        return answer["error"]["code"], answer["error"]["param"]

    def accept(self, request: GenerateRequest) -> list[dict[str, Any]]:
        self.protocol.request_accepted(request.request_id, request.model or "m")
        return self.hear()

    def tell(self, *events: Event) -> list[dict[str, Any]]:
        """Play the engine: report events and return what the peer hears."""
        for event in events:
            self.protocol.send_event(event)
        return self.hear()


def started(request: GenerateRequest, model: str = "m", seed: int | None = 7) -> Started:
    return Started(request.request_id, model, 5, 3, seed)


def answered(request: GenerateRequest, *texts: str) -> list[Event]:
    """All events of a request that ends by itself, one token per text."""
    deltas = [TextDelta(request.request_id, text, (index,)) for index, text in enumerate(texts)]
    return [started(request), *deltas, finished(request)]


def finished(request: GenerateRequest, reason: FinishReason = FinishReason.STOP) -> Finished:
    return Finished(request.request_id, reason, USAGE, TIMINGS)


def types(messages: list[dict[str, Any]]) -> list[str]:
    return [message["type"] for message in messages]
