"""`tabagent chat`: talk to a model in the terminal."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, Protocol

import click

from tabagent.config import Paths, load_config
from tabagent.core.errors import TabagentError

from .output import printable, server_url

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from tabagent.config import Config

    from .client import ServerClient

__all__ = ["chat"]

HELP = """\
/model ID          answer with another model
/system TEXT       set the system prompt; without TEXT, drop it
/set NAME VALUE    temperature, top_k, top_p, min_p, repeat_penalty, seed or max_tokens
/reset             forget the conversation
/help              this list
/quit              end, as Ctrl-D does
Ctrl-C ends an answer and keeps what has come."""

SETTINGS: dict[str, type[int] | type[float]] = {
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repeat_penalty": float,
    "seed": int,
    "max_tokens": int,
}


class Answerer(Protocol):
    """The running server, or models in this process."""

    def stream_chat(
        self, model: str | None, messages: Sequence[Mapping[str, str]], settings: Mapping[str, Any]
    ) -> Generator[str]:
        """Yield an answer piece by piece; closing the iterator cancels it."""


@click.command()
@click.option("--model", metavar="ID|PATH", help="By default the first one loaded.")
@click.option("--system", metavar="TEXT", help="The system prompt.")
@server_url
def chat(model: str | None, system: str | None, url: str | None) -> None:
    """Talk to a model of the running server, or of this process when none runs.

    Reads one message per line; /help lists the commands.
    """
    paths = Paths.locate(os.environ)
    config = load_config({}, os.environ, paths.config_file)
    server = _server(config, paths, model, url)
    with ExitStack() as stack:
        if server is not None:
            place = server.url
            conversation = Conversation(server, model, system)
        else:
            from .in_process import InProcess

            local = stack.enter_context(InProcess(config, paths, model))
            place = f"{local.model} in this process"
            conversation = Conversation(local, None, system)
        if sys.stdin.isatty():
            import readline  # noqa: F401  -- gives `input` its history and editing

            click.echo(f"Talking to {place}; /help lists the commands, Ctrl-D ends.", err=True)
        conversation.run()


def _server(
    config: Config, paths: Paths, model: str | None, url: str | None
) -> ServerClient | None:
    """The running server, unless it lacks the model and nobody insists on it."""
    from .client import find_server

    server = find_server(config, paths, url)
    if server is None or url is not None or model is None:
        return server
    return server if model in {each["id"] for each in server.get("/v1/models")["data"]} else None


class Conversation:
    """What has been said, and how the next answer is to be made."""

    def __init__(self, answerer: Answerer, model: str | None, system: str | None) -> None:
        self._answerer = answerer
        self._model = model
        self._system = system
        self._turns: list[dict[str, str]] = []
        self._settings: dict[str, Any] = {}

    def run(self) -> None:
        """Answer line after line until there are no more."""
        prompt = "> " if sys.stdin.isatty() else ""
        while True:
            try:
                line = input(prompt).strip()
            except EOFError:
                return
            except KeyboardInterrupt:
                click.echo(err=True)
                continue
            if line in ("/quit", "/exit"):
                return
            if line.startswith("/"):
                click.echo(self._command(*line[1:].split(maxsplit=1)), err=True)
            elif line:
                self._answer(line)

    def _answer(self, text: str) -> None:
        messages = [*self._turns, {"role": "user", "content": text}]
        if self._system:
            messages.insert(0, {"role": "system", "content": self._system})
        pieces: list[str] = []
        try:
            answer = self._answerer.stream_chat(self._model, messages, self._settings)
            with closing(answer):
                for piece in answer:
                    pieces.append(piece)
                    sys.stdout.write(printable(piece))
                    sys.stdout.flush()
        except KeyboardInterrupt:
            click.echo(" (cancelled)", err=True)
        except TabagentError as error:
            click.echo(f"{error.code}: {error.message}", err=True)
        if not pieces:
            return
        sys.stdout.write("\n")
        self._turns += [messages[-1], {"role": "assistant", "content": "".join(pieces)}]

    def _command(self, name: str = "help", argument: str = "") -> str:
        match name:
            case "model":
                self._model = argument or None
                return f"answering with {argument or 'the first model'}"
            case "system":
                self._system = argument or None
                return "the system prompt is set" if argument else "there is no system prompt"
            case "reset":
                self._turns.clear()
                return "the conversation is forgotten"
            case "set":
                return self._set(*argument.split(maxsplit=1))
            case "help":
                return HELP
            case _:
                return f"there is no command /{name}; /help lists them"

    def _set(self, name: str = "", value: str = "") -> str:
        kind = SETTINGS.get(name)
        if kind is None:
            return f"what can be set: {', '.join(SETTINGS)}"
        try:
            self._settings[name] = kind(value)
        except ValueError:
            return f"{name} is a number"
        return f"{name} is {self._settings[name]}"
