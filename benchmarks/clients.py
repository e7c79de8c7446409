"""Raw-socket readers: the cheapest clients there are, so that the server is what is measured."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import selectors
import socket
import struct
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT = 300.0


@dataclasses.dataclass
class Answer:
    """When an answer's bytes came, in seconds on the monotonic clock."""

    started: float
    first: float = 0.0
    ended: float = 0.0
    received: bytearray = dataclasses.field(default_factory=bytearray)

    @property
    def first_token_ms(self) -> float:
        """From the request to the first bytes of text."""
        return (self.first - self.started) * 1000


class Dialect(Protocol):
    """How to ask over one connection, and how to see the first text and the end."""

    first_mark: re.Pattern[bytes]
    end_mark: bytes

    def connect(self, port: int) -> socket.socket:
        """Open a connection that is ready for `ask`."""

    def ask(self, prompt: str, tokens: int) -> bytes:
        """The bytes that ask for exactly `tokens` greedy tokens."""


class Sse:
    """`POST /v1/completions` with `stream: true`, as TabAgent and llama-server both take it."""

    first_mark = re.compile(rb'"text":"[^"]')  # an event without text may come before
    end_mark = b"[DONE]"

    def connect(self, port: int) -> socket.socket:
        return _connect(port)

    def ask(self, prompt: str, tokens: int) -> bytes:
        body = json.dumps(
            {
                "prompt": prompt,
                "max_tokens": tokens,
                "temperature": 0,
                "ignore_eos": True,
                "stream": True,
                "cache_prompt": False,
            }
        ).encode()
        head = (
            "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class WebSocket:
    """`response.create` on the WebSocket `/v1/responses`."""

    first_mark = re.compile(rb'"response\.output_text\.delta"')
    end_mark = b'"response.incomplete"'

    def connect(self, port: int) -> socket.socket:
        connection = _connect(port)
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall(
            (
                "GET /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                "Sec-WebSocket-Version: 13\r\n\r\n"
            ).encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(4096)
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(head.decode(errors="replace"))
        return connection

    def ask(self, prompt: str, tokens: int) -> bytes:
        message = {
            "type": "response.create",
            "input": prompt,
            "max_output_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
        }
        return _masked_text_frame(json.dumps(message).encode())


def stream(dialect: Dialect, port: int, prompts: Sequence[str], tokens: int) -> list[Answer]:
    """Ask all prompts at once, one connection each, and read every answer to its end."""
    connections = [dialect.connect(port) for _ in prompts]
    answers: list[Answer] = []
    with selectors.DefaultSelector() as selector:
        for connection, prompt in zip(connections, prompts, strict=True):
            answer = Answer(time.monotonic())
            answers.append(answer)
            connection.sendall(dialect.ask(prompt, tokens))
            selector.register(connection, selectors.EVENT_READ, answer)
        running = len(connections)
        while running:
            ready = selector.select(TIMEOUT)
            if not ready:
                raise TimeoutError("no answer within the time limit")
            for key, _ in ready:
                assert isinstance(key.fileobj, socket.socket)
                if _read(dialect, key.fileobj, key.data):
                    selector.unregister(key.fileobj)
                    running -= 1
    for connection in connections:
        connection.close()
    return answers


def _read(dialect: Dialect, connection: socket.socket, answer: Answer) -> bool:
    """Read what is there; whether the answer has ended."""
    data = connection.recv(1 << 18)
    now = time.monotonic()
    answer.received += data
    if not answer.first and dialect.first_mark.search(answer.received):
        answer.first = now
    if dialect.end_mark in answer.received[-len(data) - len(dialect.end_mark) - 4096 :]:
        answer.ended = now
        return True
    if not data or b'{"error":' in data or b'"type":"error"' in data:
        raise RuntimeError(bytes(answer.received[-600:]).decode(errors="replace"))
    return False


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _masked_text_frame(payload: bytes) -> bytes:
    # The mask is all zeros: legal, and the payload needs no second pass.
    length = len(payload)
    if length < 126:
        return struct.pack("!BBI", 0x81, 0x80 | length, 0) + payload
    return struct.pack("!BBHI", 0x81, 0x80 | 126, length, 0) + payload
