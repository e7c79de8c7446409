"""One message of the extension, and what may be said in answer to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .wire import encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tabagent.core.errors import TabagentError

__all__ = ["Call"]


class Call:
    """A received message: its action, and the ids that all answers to it carry.

    Replies carry the ids at the top level, events inside their payload.
    """

    def __init__(
        self, action: str | None, ids: Mapping[str, str | int], messages: list[str]
    ) -> None:
        """Write answers to `messages`."""
        self.action = action
        self.ids = dict(ids)
        self._messages = messages

    def succeed(self, payload: Mapping[str, Any]) -> None:
        """Reply that it is done."""
        reply = {"status": "success", "action": self.action, **self.ids, "payload": payload}
        self._messages.append(encode(reply))

    def fail(self, error: TabagentError) -> None:
        """Reply that it cannot be done."""
        reason = {"code": error.code, "error": error.message}
        reply = {"status": "error", "action": self.action, **self.ids, **reason}
        self._messages.append(encode(reply))

    def tell(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Send an event."""
        self._messages.append(encode({"type": kind, "payload": {**payload, **self.ids}}))
