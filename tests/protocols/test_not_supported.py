"""Every answer `not_supported` of the wire dialects; a feature that lands leaves this list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tabagent.core.requests import LOCAL
from tabagent.protocols.chat import ChatProtocol
from tabagent.protocols.completions import CompletionsProtocol
from tabagent.protocols.realtime import RealtimeProtocol
from tabagent.protocols.response_exchange import ResponsesExchange
from tabagent.protocols.responses import ResponsesProtocol

from tests.protocols.peer import Peer

if TYPE_CHECKING:
    from tabagent.core.protocol import Protocol

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
RESPONSE: dict[str, Any] = {"type": "response.create", "input": "hi"}
TOOL = {"type": "function", "name": "f", "function": {"name": "f"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}
REALTIME_ITEM = {"type": "conversation.item.create"}
SCHEMA = {"type": "json_schema", "json_schema": {}, "name": "s", "schema": {}}


def realtime_session(**fields: Any) -> dict[str, Any]:
    return {"type": "session.update", "session": {"type": "realtime", **fields}}


CASES: list[tuple[type[Protocol], dict[str, Any], str]] = [
    (ChatProtocol, {"tools": [TOOL]}, "tools"),
    (ChatProtocol, {"functions": [{"name": "f"}]}, "functions"),
    (ChatProtocol, {"response_format": SCHEMA}, "response_format"),
    (ChatProtocol, {"response_format": {"type": "json_object"}}, "response_format"),
    (ChatProtocol, {"modalities": ["text", "audio"]}, "modalities"),
    (ChatProtocol, {"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0]"),
    (ChatProtocol, {"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
    (ChatProtocol, {"messages": [{"role": "assistant", "tool_calls": [TOOL]}]}, "messages[0]"),
    (CompletionsProtocol, {"prompt": ["a", "b"]}, "prompt"),
    (CompletionsProtocol, {"prompt": [[1], [2]]}, "prompt"),
    (CompletionsProtocol, {"prompt": "a", "echo": True}, "echo"),
    (CompletionsProtocol, {"prompt": "a", "suffix": "b"}, "suffix"),
    (ResponsesProtocol, {"tools": [TOOL]}, "tools"),
    (ResponsesProtocol, {"background": True}, "background"),
    (ResponsesProtocol, {"previous_response_id": "resp_1"}, "previous_response_id"),
    (ResponsesProtocol, {"conversation": "conv_1"}, "conversation"),
    (ResponsesProtocol, {"prompt": {"id": "p"}}, "prompt"),
    (ResponsesProtocol, {"text": {"format": SCHEMA}}, "text.format"),
    (ResponsesExchange, {"tabagent": {"resumable": True}}, "tabagent.resumable"),
    (ResponsesProtocol, {"input": [{"type": "function_call_output"}]}, "input[0]"),
    (
        ResponsesProtocol,
        {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
        "input[0].content[0]",
    ),
    (ResponsesExchange, {"background": True}, "background"),
    (ResponsesProtocol, {"type": "tabagent.chunk", "id": "1", "index": 0, "data": ""}, "type"),
    (RealtimeProtocol, {"type": "input_audio_buffer.append", "audio": ""}, "type"),
    (RealtimeProtocol, realtime_session(type="transcription"), "session.type"),
    (RealtimeProtocol, realtime_session(tools=[TOOL]), "session.tools"),
    (RealtimeProtocol, realtime_session(prompt={"id": "p"}), "session.prompt"),
    (RealtimeProtocol, realtime_session(truncation={"type": "x"}), "session.truncation"),
    (
        RealtimeProtocol,
        realtime_session(tabagent={"text": {"format": SCHEMA}}),
        "session.tabagent.text.format",
    ),
    (RealtimeProtocol, {"response": {"tools": [TOOL]}}, "response.tools"),
    (RealtimeProtocol, {"response": {"tool_choice": "required"}}, "response.tool_choice"),
    (
        RealtimeProtocol,
        {"response": {"output_modalities": ["audio"]}},
        "response.output_modalities",
    ),
    (RealtimeProtocol, {"response": {"prompt": {"id": "p"}}}, "response.prompt"),
    (
        RealtimeProtocol,
        {"response": {"tabagent": {"text": {"format": SCHEMA}}}},
        "response.tabagent.text.format",
    ),
    (RealtimeProtocol, REALTIME_ITEM | {"item": {"type": "function_call"}}, "item.type"),
    (RealtimeProtocol, REALTIME_ITEM | {"item": {"type": "function_call_output"}}, "item.type"),
    (
        RealtimeProtocol,
        REALTIME_ITEM
        | {"item": {"type": "message", "role": "user", "content": [{"type": "input_audio"}]}},
        "item.content[0]",
    ),
]


@pytest.mark.parametrize(("protocol", "fields", "param"), CASES)
def test_not_supported_is_said_with_the_field(
    protocol: type[Protocol], fields: dict[str, Any], param: str
) -> None:
    base: dict[str, Any] = CHAT if protocol is ChatProtocol else RESPONSE
    assert Peer(protocol(LOCAL)).refusal(base | fields) == ("not_supported", param)


@pytest.mark.parametrize(
    ("protocol", "fields"),
    [
        (ChatProtocol, {"tools": [], "response_format": {"type": "text"}, "modalities": ["text"]}),
        (ResponsesProtocol, {"tools": [], "background": False, "truncation": "disabled"}),
        (ResponsesProtocol, {"text": {"format": {"type": "text"}, "verbosity": "low"}}),
        (ResponsesProtocol, {"text": {}}),
        (ResponsesProtocol, {"text": {"format": None}}),
    ],
)
def test_asking_for_nothing_unsupported_is_fine(
    protocol: type[Protocol], fields: dict[str, Any]
) -> None:
    base: dict[str, Any] = CHAT if protocol is ChatProtocol else RESPONSE
    Peer(protocol(LOCAL)).ask(base | fields)
