"""The conversation of a Realtime session: items in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from tabagent.core.errors import RequestError
from tabagent.core.requests import Message

from .realtime_objects import ConversationItem, ItemPart
from .request_fields import ContentPart, text_of
from .wire import invalid, new_id, not_supported

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MAX_CHARS", "MAX_ITEMS", "Conversation", "GivenItem", "item_of", "message_of"]

MAX_ITEMS = 2048
"""Items of one conversation."""

MAX_CHARS = 4 * 1024 * 1024
"""Characters of one conversation; the last answer may go beyond them."""

MAX_ID_CHARS = 128

_ROLES: dict[str, Literal["user", "assistant", "system"]] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
}
_KNOWN_TYPES = frozenset(
    {
        "function_call",
        "function_call_output",
        "mcp_approval_request",
        "mcp_approval_response",
        "mcp_call",
        "mcp_list_tools",
    }
)


class GivenItem(Struct, kw_only=True):
    """An item as a client writes it, or a reference to one in the conversation."""

    type: str
    id: str | None = None
    role: str | None = None
    content: list[ContentPart] | None = None


class Conversation:
    """Items in order.

    Attributes:
        id: What responses that write to it name.
    """

    def __init__(self) -> None:
        self.id = new_id("conv_")
        self._items: list[ConversationItem] = []
        self._chars = 0

    def insert(self, item: ConversationItem, previous_id: str | None) -> str | None:
        """Put an item at the end, after `previous_id`, or first (`root`); return what precedes it.

        :raises RequestError: for an id that is taken or unknown; `overloaded` when it is full.
        """
        if any(each.id == item.id for each in self._items):
            raise invalid("item.id", f"{item.id!r} is in the conversation already")
        self.require_room(_chars(item))
        index = len(self._items)
        if previous_id == "root":
            index = 0
        elif previous_id is not None:
            index = self._index(previous_id, "previous_item_id") + 1
        self._items.insert(index, item)
        self._chars += _chars(item)
        return self._items[index - 1].id if index else None

    def require_room(self, chars: int = 0) -> None:
        """Raise `RequestError` (`overloaded`) unless there is room for an item of that length."""
        if len(self._items) >= MAX_ITEMS or self._chars + chars > MAX_CHARS:
            raise RequestError("overloaded", "the conversation is full; delete some of its items")

    def append_answer(self, item: ConversationItem) -> str | None:
        """Put an answer that begins at the end; return what precedes it."""
        self._items.append(item)
        return self._items[-2].id if len(self._items) > 1 else None

    def count_answer(self, item: ConversationItem) -> str | None:
        """Take note that an answer is whole; return what precedes it, if anything."""
        if item not in self._items:  # deleted meanwhile
            return None
        self._chars += _chars(item)
        index = self._items.index(item)
        return self._items[index - 1].id if index else None

    def item(self, item_id: str) -> ConversationItem:
        """Return an item.

        :raises RequestError: `invalid_parameter` when there is none of that id.
        """
        return self._items[self._index(item_id, "item_id")]

    def delete(self, item_id: str) -> None:
        """Take an item out.

        :raises RequestError: `invalid_parameter` when there is none of that id.
        """
        item = self._items.pop(self._index(item_id, "item_id"))
        if item.status != "in_progress":
            self._chars -= _chars(item)

    def messages(self) -> list[Message]:
        """Return the items that are not being written."""
        return [message_of(item) for item in self._items if item.status != "in_progress"]

    def resolve(self, given: Sequence[GivenItem]) -> list[Message]:
        """Return the messages that given items, and references to items, stand for.

        :raises RequestError: for what is wrong or not supported, the field in `param`.
        """
        messages = []
        for index, item in enumerate(given):
            place = f"input[{index}]"
            if item.type == "item_reference":
                messages.append(message_of(self._items[self._index(item.id or "", f"{place}.id")]))
            else:
                messages.append(message_of(item_of(item, place)))
        return messages

    def _index(self, item_id: str, param: str) -> int:
        for index, item in enumerate(self._items):
            if item.id == item_id:
                return index
        raise invalid(param, f"there is no item {item_id[:200]!r} in the conversation")


def item_of(given: GivenItem, place: str) -> ConversationItem:
    """Return the item that a client wrote at `place` of its event.

    :raises RequestError: `invalid_parameter` or `not_supported`, the field in `param`.
    """
    if given.type in _KNOWN_TYPES:
        raise not_supported(f"{place}.type", f"{given.type!r} is not supported, only messages")
    if given.type != "message":
        raise invalid(f"{place}.type", f"there is no item type {given.type[:200]!r}")
    role = _ROLES.get(given.role or "")
    if role is None:
        raise invalid(f"{place}.role", f"must be one of {', '.join(_ROLES)}")
    if given.content is None:
        raise invalid(f"{place}.content", "this field is required")
    if given.id is not None and not 0 < len(given.id) <= MAX_ID_CHARS:
        raise invalid(f"{place}.id", f"has 1 to {MAX_ID_CHARS} characters")
    text_of(given.content, f"{place}.content")  # refuses what is no text
    kind: Literal["input_text", "output_text"]
    kind = "output_text" if role == "assistant" else "input_text"
    texts = [part.refusal if part.type == "refusal" else part.text for part in given.content]
    return ConversationItem(
        id=given.id or new_id("item_"),
        role=role,
        content=[ItemPart(type=kind, text=text or "") for text in texts],
    )


def message_of(item: ConversationItem) -> Message:
    """Return an item as chat templates expect it."""
    return Message(item.role, "".join([part.text for part in item.content]))


def _chars(item: ConversationItem) -> int:
    return sum([len(part.text) for part in item.content])
