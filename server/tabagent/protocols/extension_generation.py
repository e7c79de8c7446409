"""One answer as the extension's events, or whole in one reply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tabagent.core.events import Failed, Finished, FinishReason, TextDelta

if TYPE_CHECKING:
    from collections.abc import Callable

    from tabagent.core.events import Event

    from .extension_replies import Call

__all__ = ["Generation"]


class Generation:
    """Counts and collects the answer to one `generate`.

    Attributes:
        whole: Whether the answer goes into the reply, and no event is sent.
    """

    def __init__(self, call: Call, *, whole: bool, clock: Callable[[], float]) -> None:
        self.call = call
        self.whole = whole
        self._accepted = False
        self._clock = clock
        self._first_at = 0.0
        self._tokens = 0
        self._texts: list[str] = []

    def accept(self) -> None:
        """Say that the request was admitted."""
        self._accepted = True
        if not self.whole:
            self.call.succeed({})

    def send_event(self, event: Event) -> None:
        """Take one event of the request."""
        if isinstance(event, TextDelta):
            self._take(event)
        elif isinstance(event, Finished):
            self._finish(event)
        elif isinstance(event, Failed):
            if self._accepted and not self.whole:
                error = {"code": event.error.code, "error": event.error.message}
                self.call.tell("generationError", error)
            else:
                self.call.fail(event.error)

    def _take(self, event: TextDelta) -> None:
        if not self._tokens:
            self._first_at = self._clock()
        self._tokens += len(event.tokens)
        self._texts.append(event.text)
        if event.text and not self.whole:
            counts = {"token": event.text, "tps": self._rate(), "numTokens": self._tokens}
            self.call.tell("generationUpdate", counts)

    def _rate(self) -> float:
        """Tokens per second so far: the first one starts the clock."""
        seconds = self._clock() - self._first_at
        return round((self._tokens - 1) / seconds, 2) if self._tokens > 1 and seconds > 0 else 0.0

    def _finish(self, event: Finished) -> None:
        text, decode_ms = "".join(self._texts), event.timings.decode_ms
        rate = round(self._tokens * 1000 / decode_ms, 2) if decode_ms > 0 else self._rate()
        payload = {"output": text, "generatedText": text, "tps": rate, "numTokens": self._tokens}
        if self.whole:
            self.call.succeed(payload)
        elif event.reason is FinishReason.CANCELLED:
            self.call.tell("generationStopped", payload)
        else:
            self.call.tell("generationComplete", payload)
