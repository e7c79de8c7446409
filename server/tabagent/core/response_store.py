"""Keeps the messages of resumable responses, so that a connection may end before its answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import TYPE_CHECKING

from .errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .requests import Principal

__all__ = ["MemoryResponseStore", "ResponseLog", "ResponseStore"]

MAX_EXPIRED = 4096
"""Expired responses that are still told from those that never were."""


class ResponseLog(ABC):
    """The messages of one response; a message's number is its place, from 0.

    Attributes:
        size: Bytes of all messages.
    """

    size: int = 0

    @abstractmethod
    def append(self, message: str) -> None:
        """Add the next message."""

    @abstractmethod
    def after(self, number: int) -> Sequence[str]:
        """Return the messages that follow number `number`; -1 returns all."""

    @abstractmethod
    def __len__(self) -> int:
        """Return how many messages there are."""


class ResponseStore(ABC):
    """The logs of resumable responses, each private to the principal that asked for it."""

    @abstractmethod
    def create(self, response_id: str, principal: Principal) -> ResponseLog:
        """Return an empty log for a new response."""

    @abstractmethod
    def check(self, response_id: str, principal: Principal) -> None:
        """Pass when `principal` may read the log of a response.

        :raises RequestError: `resume_expired`; `response_not_found`, also for the responses of
            other principals.
        """

    @abstractmethod
    def expire(self, response_id: str) -> None:
        """Forget the messages of a response."""


class MemoryResponseStore(ResponseStore):
    """Logs that end with the process."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}
        self._expired: OrderedDict[str, str] = OrderedDict()

    def create(self, response_id: str, principal: Principal) -> ResponseLog:
        """Return an empty log for a new response."""
        self._owners[response_id] = principal.id
        return _MemoryLog()

    def check(self, response_id: str, principal: Principal) -> None:
        """Pass when `principal` may read the log of a response."""
        if self._owners.get(response_id) == principal.id:
            return
        if self._expired.get(response_id) == principal.id:
            text = f"the response {response_id!r} is no longer kept"
            raise RequestError("resume_expired", text, param="response_id")
        text = f"there is no resumable response {response_id!r}"
        raise RequestError("response_not_found", text, param="response_id")

    def expire(self, response_id: str) -> None:
        """Forget the messages of a response."""
        self._expired[response_id] = self._owners.pop(response_id)
        if len(self._expired) > MAX_EXPIRED:
            self._expired.popitem(last=False)


class _MemoryLog(ResponseLog):
    def __init__(self) -> None:
        self._messages: list[str] = []

    def append(self, message: str) -> None:
        self._messages.append(message)
        self.size += len(message.encode())

    def after(self, number: int) -> Sequence[str]:
        return self._messages[number + 1 :]

    def __len__(self) -> int:
        return len(self._messages)
