"""The settings of a Realtime session, and what one response makes of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from tabagent.core.errors import RequestError

from .realtime_conversation import GivenItem
from .realtime_objects import SessionObject
from .request_fields import GenerationFields
from .response_objects import TextSettings  # noqa: TC001  # a Struct's fields are read at run time
from .wire import convert, invalid, new_id, not_supported

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["ResponseFields", "Session", "SessionFields", "TabagentFields", "blamed_in"]

MaxTokens = int | Literal["inf"]


class TabagentFields(GenerationFields, kw_only=True):
    """Extensions: sampling and the form of the answer, under the names of Responses."""

    text: TextSettings | None = None

    def check(self) -> None:
        """Raise `RequestError` for values out of range, and for what is not supported."""
        self.sampling()
        if self.text and self.text.format and self.text.format.type != "text":
            kind = self.text.format.type
            raise not_supported("text.format", f"{kind!r} is not supported, only 'text'")


class SessionFields(Struct, kw_only=True):
    """What `session.update` may set; an absent field stays, null returns to the default.

    Stock voice clients always send `audio` settings and ask for that modality, so these are
    taken; the session that is in force says `text`.
    """

    type: str
    model: str | UnsetType | None = UNSET
    output_modalities: list[Literal["text", "audio"]] | UnsetType | None = UNSET
    instructions: str | UnsetType | None = UNSET
    max_output_tokens: MaxTokens | UnsetType | None = UNSET
    truncation: str | dict[str, Any] | UnsetType | None = UNSET
    tools: list[Any] | None = None
    tool_choice: Any = None
    prompt: Any = None
    tabagent: TabagentFields | UnsetType | None = UNSET

    def check(self) -> None:
        """Raise `RequestError` for what is wrong or not supported."""
        if self.type != "realtime":
            raise not_supported("type", f"{self.type!r} sessions are not supported")
        _refuse_tools(self.tools, self.tool_choice)
        if self.prompt:
            raise not_supported("prompt", "stored prompts are not supported")
        if isinstance(self.truncation, dict):
            raise not_supported("truncation", "only 'auto' and 'disabled' are supported")
        if self.truncation not in (UNSET, None, "auto", "disabled"):
            raise invalid("truncation", "must be 'auto' or 'disabled'")
        _check_max_tokens(self.max_output_tokens)
        if self.tabagent:
            with blamed_in("tabagent"):
                self.tabagent.check()


class ResponseFields(Struct, kw_only=True):
    """What `response.create` may set for one response."""

    conversation: str | None = None
    input: list[GivenItem] | None = None
    instructions: str | None = None
    output_modalities: list[str] | None = None
    max_output_tokens: MaxTokens | None = None
    metadata: dict[str, str] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    prompt: Any = None
    tabagent: TabagentFields | None = None

    @property
    def in_band(self) -> bool:
        """Whether the answer becomes part of the conversation."""
        return self.conversation != "none"

    def check(self) -> None:
        """Raise `RequestError` for what is wrong or not supported."""
        if self.conversation not in (None, "auto", "none"):
            raise invalid("conversation", "must be 'auto' or 'none'")
        if self.output_modalities not in (None, ["text"]):
            raise not_supported("output_modalities", "only ['text'] is supported")
        _refuse_tools(self.tools, self.tool_choice)
        if self.prompt:
            raise not_supported("prompt", "stored prompts are not supported")
        _check_max_tokens(self.max_output_tokens)
        if self.tabagent:
            with blamed_in("tabagent"):
                self.tabagent.check()


class Session:
    """The settings in force."""

    def __init__(self) -> None:
        self.id = new_id("sess_")
        self.model: str | None = None
        self.instructions = ""
        self.max_output_tokens: MaxTokens = "inf"
        self.truncation: Literal["auto", "disabled"] = "auto"
        self.tabagent = TabagentFields()

    @classmethod
    def opened(cls, wanted: Mapping[str, Any]) -> Session:
        """Return a session that begins with `wanted`, a session object as clients write it.

        :raises RequestError: for what is wrong or not supported, the field in `param`.
        """
        session = cls()
        session.update(convert({"type": "realtime", **wanted}, SessionFields))
        return session

    def update(self, fields: SessionFields) -> None:
        """Change what `fields` has, all of it or nothing.

        :raises RequestError: for what is wrong or not supported, the field in `param`.
        """
        fields.check()
        if fields.model is not UNSET:
            self.model = fields.model or None
        if fields.instructions is not UNSET:
            self.instructions = fields.instructions or ""
        if fields.max_output_tokens is not UNSET:
            self.max_output_tokens = fields.max_output_tokens or "inf"
        if fields.truncation is not UNSET:
            self.truncation = "disabled" if fields.truncation == "disabled" else "auto"
        if fields.tabagent is not UNSET:
            self.tabagent = fields.tabagent or TabagentFields()

    def extras(self, fields: ResponseFields) -> TabagentFields:
        """Return the extensions in force for one response."""
        own = given(fields.tabagent) if fields.tabagent else {}
        return msgspec.structs.replace(self.tabagent, **own)

    def as_object(self) -> SessionObject:
        """Return the session as clients see it."""
        return SessionObject(
            id=self.id,
            model=self.model or UNSET,
            output_modalities=["text"],
            instructions=self.instructions,
            tools=[],
            tool_choice="auto",
            max_output_tokens=self.max_output_tokens,
            truncation=self.truncation,
            tabagent=given(self.tabagent),
        )


def given(fields: Struct) -> dict[str, Any]:
    """Return the fields that are not null."""
    values = msgspec.structs.asdict(fields)
    return {name: value for name, value in values.items() if value is not None}


@contextmanager
def blamed_in(place: str) -> Iterator[None]:
    """Let errors blame a field by its whole path, `place` in front."""
    try:
        yield
    except RequestError as error:
        if error.param is None:
            raise
        text = error.message.removeprefix(f"{error.param}: ")
        path = f"{place}.{error.param}"
        raise RequestError(error.code, f"{path}: {text}", param=path) from None


def _refuse_tools(tools: list[Any] | None, choice: Any) -> None:
    if tools:
        raise not_supported("tools", "tool calls are not supported")
    if choice not in (None, "auto", "none"):
        raise not_supported("tool_choice", "tool calls are not supported")


def _check_max_tokens(value: MaxTokens | UnsetType | None) -> None:
    if isinstance(value, int) and value < 1:
        raise invalid("max_output_tokens", "must be at least 1, or 'inf'")
