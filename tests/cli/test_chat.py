"""`tabagent chat`, with the server and without."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.gguf_fixtures import KNOWN_ANSWER

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Done, Process
    from tests.gguf_fixtures import ChainModel

    Run = Callable[..., Done]
    Start = Callable[..., Process]


@pytest.fixture(params=["in process", "with the server"])
def place(request: pytest.FixtureRequest, start: Start) -> list[str]:
    """The flags of a chat with the echo model: in its own process, or through a server."""
    if request.param == "in process":
        return ["--model", "echo:demo"]
    return ["--url", start("serve", "--model", "echo:demo", "--port", "0").url()]


def test_each_line_gets_its_answer(run: Run, place: list[str]) -> None:
    done = run("chat", *place, stdin="hello you\nand again\n")
    assert (done.code, done.out) == (0, "hello you\nand again\n")


def test_a_real_model_answers_in_process(spawn: Run, chain_model: ChainModel) -> None:
    done = spawn("chat", "--model", str(chain_model.path), stdin="/set temperature 0\nanything\n")
    assert (done.code, done.out) == (0, f"{KNOWN_ANSWER}\n")


def test_commands_answer_on_stderr(run: Run, place: list[str]) -> None:
    lines = ["/help", "/set max_tokens 1", "/set mood 3", "/set top_k x", "/reset", "/dance", "/"]
    done = run("chat", *place, stdin="\n".join([*lines, "one two", "/quit", "never"]))
    assert done.out == "one\n"
    for word in (
        "/reset",
        "max_tokens is 1",
        "what can be set",
        "is a number",
        "no command /dance",
    ):
        assert word in done.err


def test_a_failed_request_is_told_and_the_chat_goes_on(run: Run, place: list[str]) -> None:
    lines = ["/model nobody", "hello", "/model", "/set top_p 7", "hello", "/set top_p 1", "bye"]
    done = run("chat", *place, stdin="\n".join(lines))
    assert done.out == "bye\n"
    assert "model_not_found" in done.err
    assert "invalid_parameter" in done.err


def test_a_model_that_cannot_be_loaded_is_an_error(run: Run) -> None:
    done = run("chat", "--model", "no-such-file.gguf", stdin="hello\n")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("tabagent: model_not_found: ")


def test_without_any_model_it_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TABAGENT_NO_MODEL", "1")
    done = run("chat", stdin="hello\n")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("tabagent: model_not_found: ")


def test_control_characters_do_not_reach_the_terminal(run: Run, place: list[str]) -> None:
    assert "\x1b" not in run("chat", *place, stdin="red \x1b[31m alert\n").out


def test_ctrl_c_ends_the_answer_and_not_the_chat(start: Start, place: list[str]) -> None:
    chat = start("chat", *place)
    assert chat.process.stdin is not None
    assert chat.process.stdout is not None
    # More than the pipe holds: the answer cannot end before it is read.
    chat.process.stdin.write(("word" * 20 + " ").encode() * 4000 + b"\n")
    chat.process.stdin.flush()
    assert chat.process.stdout.read(4) == b"word"
    chat.process.send_signal(signal.SIGINT)
    chat.line("(cancelled)")
    chat.process.stdin.write(b"/reset\nstill here\n")
    chat.process.stdin.close()
    assert chat.process.stdout.read().endswith(b"\nstill here\n")
    assert chat.end() == 0
