"""Log lines."""

from __future__ import annotations

import io
import json
import logging
from typing import Literal

import pytest
from tabagent.log import configure_logging

pytestmark = pytest.mark.usefixtures("restored_loggers")


def logged(style: Literal["text", "json"], level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure_logging(level, style, stream)
    return stream


def test_a_text_line_has_time_level_logger_message_and_extras() -> None:
    stream = logged("text")
    logging.getLogger("tabagent.ws").info("opened %d", 1, extra={"connection_id": "c1"})
    _, rest = stream.getvalue().split(" ", 1)
    assert rest == "info tabagent.ws opened 1 connection_id=c1\n"


def test_a_json_line_is_one_object() -> None:
    stream = logged("json")
    logging.getLogger("tabagent.core").warning("bad\nthing", extra={"request_id": "r1"})
    line = json.loads(stream.getvalue())
    assert line.pop("time")
    assert line == {
        "level": "warning",
        "logger": "tabagent.core",
        "message": "bad\nthing",
        "request_id": "r1",
    }


def test_exceptions_are_part_of_the_line() -> None:
    stream = logged("json")
    try:
        raise ValueError("inner")
    except ValueError:
        logging.getLogger("tabagent").exception("outer")
    assert "ValueError: inner" in json.loads(stream.getvalue())["exception"]


def test_what_a_client_sends_cannot_fake_a_line() -> None:
    stream = logged("text")
    logging.getLogger("tabagent").info("path %s", "/x\n2026 error tabagent owned\x1b[2J")
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_the_servers_logs_go_the_same_way() -> None:
    stream = logged("text")
    logging.getLogger("uvicorn.error").info("started")
    logging.getLogger("uvicorn.access").info("GET /")
    assert [line.split(" ", 2)[2] for line in stream.getvalue().splitlines()] == [
        "uvicorn started",
        "access GET /",
    ]


def test_libraries_are_heard_from_warnings_on_and_the_level_rules_ours() -> None:
    stream = logged("text", "debug")
    logging.getLogger("asyncio").info("chatter")
    logging.getLogger("tabagent.core").debug("detail")
    assert stream.getvalue().endswith("debug tabagent.core detail\n")
    assert stream.getvalue().count("\n") == 1
