"""An HTTP client that calls an ASGI application directly, and sees each piece as it is sent."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
from starlette.datastructures import Headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Message

__all__ = ["Answer", "Client"]

HOST = {"host": "127.0.0.1:8484"}


class Answer:
    """What has come of one answer so far."""

    def __init__(self) -> None:
        self.status = 0
        self.headers = Headers()
        self.body = b""
        self.finished = False
        self._gone = anyio.Event()
        self._arrived = anyio.Event()

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str, str | None]:
        """Status, code and field of a refusal in OpenAI's shape."""
        assert self.headers["content-type"] == "application/json"
        error = self.json["error"]
        assert error.keys() == {"message", "type", "code", "param"}
        return self.status, error["code"], error["param"]

    @property
    def data(self) -> list[Any]:
        """The JSON values of the server-sent events so far."""
        lines = [line for line in self.text.splitlines() if line.startswith("data: {")]
        return [json.loads(line.removeprefix("data: ")) for line in lines]

    def leave(self) -> None:
        """Close the connection from the client's side."""
        self._gone.set()

    async def until(self, text: str) -> None:
        """Wait until the body contains `text`."""
        with anyio.fail_after(10):
            while text not in self.body.decode(errors="ignore"):
                await self._arrived.wait()

    async def started(self) -> None:
        """Wait for the headers."""
        with anyio.fail_after(10):
            while not self.status:
                await self._arrived.wait()

    async def gone(self) -> None:
        await self._gone.wait()

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            assert not self.status, "headers were sent twice"
            self.status = message["status"]
            self.headers = Headers(raw=message["headers"])
        else:
            assert not self.finished, "something was sent after the end"
            self.body += message.get("body", b"")
            self.finished = not message.get("more_body", False)
        self._arrived.set()
        self._arrived = anyio.Event()
        await anyio.lowlevel.checkpoint()


class Client:
    """Sends requests to one application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        return await self.request("GET", path, headers=headers)

    async def post(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        return await self.request("POST", path, body, headers)

    async def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send a request and wait for the whole answer."""
        async with self.stream(method, path, body, headers) as answer:
            pass
        assert answer.finished
        return answer

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        *,
        whole: bool = True,
    ) -> AsyncIterator[Answer]:
        """Send a request; its answer arrives inside the block, which waits for the end of it.

        A body that is not `whole` has more to come.
        """
        answer = Answer()
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        unsent = [{"type": "http.request", "body": content, "more_body": not whole}]
        shown = HOST | {"content-type": "application/json"} | (headers or {})
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "scheme": "http",
            "server": ("127.0.0.1", 8484),
            "headers": [(name.encode(), value.encode()) for name, value in shown.items() if value],
        }

        async def receive() -> Message:
            if unsent:
                return unsent.pop()
            await answer.gone()
            return {"type": "http.disconnect"}

        async def call() -> None:
            await self._app(scope, receive, answer.take)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call)
                yield answer
