"""What the extension's messages say, and the way of a generation into the domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from tabagent.core.requests import GenerateRequest, Message, SamplingParams

from .chat import ChatMessage, chat_message
from .wire import invalid, renamed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tabagent.core.requests import Principal

__all__ = [
    "Envelope",
    "GenerateMessage",
    "ModelMessage",
    "Settings",
    "SettingsMessage",
    "generate_request",
]

Id = Annotated[str, Meta(max_length=256)] | int | None

ID_FIELDS: Final = ("requestId", "chatId", "messageId", "loadId")


class Envelope(Struct, rename="camel"):
    """What every message has: its action, and the sender's ids, which come back as they are."""

    action: str | None = None
    type: str | None = None
    request_id: Id = None
    chat_id: Id = None
    message_id: Id = None
    load_id: Id = None

    def ids(self) -> dict[str, str | int]:
        """Return the ids that are given, under their names on the wire."""
        values = (self.request_id, self.chat_id, self.message_id, self.load_id)
        return {
            name: value for name, value in zip(ID_FIELDS, values, strict=True) if value is not None
        }


class Settings(Struct, kw_only=True):
    """How answers are made; null means the model's default.

    Attributes:
        temperature: 0 always takes the likeliest token.
        top_k: 0 looks at all tokens.
        do_sample: False is a temperature of 0.
        system_prompt: Goes before every conversation.
    """

    temperature: float | UnsetType | None = UNSET
    top_k: int | UnsetType | None = UNSET
    top_p: float | UnsetType | None = UNSET
    min_p: float | UnsetType | None = UNSET
    max_new_tokens: int | UnsetType | None = UNSET
    repetition_penalty: float | UnsetType | None = UNSET
    do_sample: bool | UnsetType | None = UNSET
    stop: str | list[str] | UnsetType | None = UNSET
    seed: int | UnsetType | None = UNSET
    system_prompt: str | UnsetType | None = UNSET

    def given(self) -> dict[str, Any]:
        """Return what is given, null included."""
        values = msgspec.structs.asdict(self)
        return {name: value for name, value in values.items() if value is not UNSET}


class GenerateMessage(Struct):
    """`generate`: a conversation, or the prompt of one with a single turn.

    `stream: false` asks for the whole answer in one reply.
    """

    messages: list[ChatMessage] | None = None
    prompt: str | None = None
    model: str | None = None
    settings: Settings | None = None
    stream: bool | None = None


class ModelMessage(Struct, rename="camel"):
    """A message about one model: its id, or the name of its file in the models folder."""

    model: str | None = None
    model_path: str | None = None

    @property
    def model_id(self) -> str | None:
        """The id of the model that is meant, if one is."""
        name = self.model or self.model_path
        return name and name.removesuffix(".gguf")


class SettingsMessage(Struct):
    """`set_params` and `update_settings`."""

    settings: Settings


def generate_request(
    request_id: str, message: GenerateMessage, settings: Mapping[str, Any], principal: Principal
) -> GenerateRequest:
    """Return what a message asks for under all settings in force.

    :raises RequestError: `invalid_parameter` or `not_supported`, the field in `param`.
    """
    stop = settings.get("stop") or ()
    greedy = settings.get("do_sample") is False
    names = {
        "repeat_penalty": "repetition_penalty",
        "max_tokens": "max_new_tokens",
        **{name: name for name in ("temperature", "top_k", "top_p", "min_p", "seed", "stop")},
    }
    with renamed(**{name: f"settings.{wire}" for name, wire in names.items()}):
        return GenerateRequest(
            request_id=request_id,
            model=message.model,
            messages=_conversation(message, settings.get("system_prompt")),
            truncate=True,
            max_tokens=settings.get("max_new_tokens"),
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            sampling=SamplingParams(
                temperature=0.0 if greedy else settings.get("temperature"),
                top_k=settings.get("top_k"),
                top_p=settings.get("top_p"),
                min_p=settings.get("min_p"),
                repeat_penalty=settings.get("repetition_penalty"),
                seed=settings.get("seed"),
            ),
            principal=principal,
        )


def _conversation(message: GenerateMessage, system_prompt: str | None) -> tuple[Message, ...]:
    if (message.prompt is None) == (message.messages is None):
        raise invalid("messages", "give either messages or a prompt")
    if message.prompt is not None:
        turns: Sequence[Message] = [Message("user", message.prompt)]
    else:
        numbered = enumerate(message.messages or ())
        turns = [chat_message(turn, f"messages[{index}]") for index, turn in numbered]
    said = [turn.content for turn in turns if turn.role == "system"]
    system = [text for text in dict.fromkeys([system_prompt or "", *said]) if text]
    rest = [turn for turn in turns if turn.role != "system"]
    if not rest:
        raise invalid("messages", "there must be at least one message of the user")
    first = [Message("system", "\n\n".join(system))] if system else []
    return (*first, *rest)
