"""Talks to the running server, as any local program may."""

from __future__ import annotations

import http.client
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import msgspec

from tabagent.core.errors import HTTP_STATUS, BackendError, TabagentError, error_from_code
from tabagent.credentials import client_token
from tabagent.tls import client_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from tabagent.config import Config, Paths

__all__ = ["ServerClient", "find_server"]

CONNECT_TIMEOUT = 2.0
HEALTH_TIMEOUT = 5.0
"""Seconds after which whoever listens there is not one of ours; a model may take for ever."""
STATUSES = {"ok", "loading"}


def find_server(config: Config, paths: Paths, url: str | None = None) -> ServerClient | None:
    """Return a client of the server at `url`, by default where `serve` would listen.

    None means that nobody answers there; an explicit `url` must answer.

    :raises BackendError: `upstream_failed` when `url` does not lead to a TabAgent.
    """
    host = config.host or "127.0.0.1"
    scheme = "http" if config.tls_cert is None else "https"
    address = f"[{host}]" if ":" in host else host
    default = f"{scheme}://{address}:{config.port}"
    ours = config.tls_cert if url is None else None
    tls = None if ours is None else client_context(ours)
    client = ServerClient(url or default, client_token(config, paths), tls)
    try:
        if client.health() in STATUSES:
            return client
    except (OSError, http.client.HTTPException, TabagentError):
        pass
    if url is not None:
        raise BackendError("upstream_failed", f"there is no TabAgent at {url}")
    return None


class ServerClient:
    """A server's routes; each call has a connection of its own."""

    def __init__(self, url: str, token: str | None, tls: ssl.SSLContext | None = None) -> None:
        """Talk to `url`; over https with `tls` instead of the system's trust, if given."""
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port
        self._https, self._tls = parts.scheme == "https", tls
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    def health(self) -> str:
        """Return `ok` or `loading`."""
        with self._response("GET", "/health", None, patience=HEALTH_TIMEOUT) as response:
            return str(_object(response.read()).get("status"))

    def get(self, path: str) -> Any:
        """Return what a route answers.

        :raises TabagentError: with the code of the server's error.
        """
        with self._response("GET", path, None) as response:
            _raise_for_status(response)
            return _object(response.read())

    def post(self, path: str, body: Any) -> Any:
        """Send a body and return what a route answers.

        :raises TabagentError: with the code of the server's error.
        """
        with self._response("POST", path, body) as response:
            _raise_for_status(response)
            return _object(response.read())

    def delete_model(self, model_id: str) -> None:
        """Delete a model and its files.

        :raises TabagentError: with the code of the server's error.
        """
        with self._response("DELETE", f"/v1/models/{quote(model_id)}", None) as response:
            _raise_for_status(response)

    def pull(self, reference: str, progress: Callable[[str, int, int], object]) -> str:
        """Let the server pull a model; return its id. Leaving, by an error or Ctrl-C, cancels it.

        :raises TabagentError: with the code of the server's error.
        """
        body = {"model": reference, "stream": True}
        with self._response("POST", "/v1/models/pull", body) as response:
            _raise_for_status(response)
            for event in _events(response):
                if event.get("type") == "tabagent.model.pull.progress":
                    progress(event["file"], event["done"], event["total"])
                elif event.get("type") == "tabagent.model.pull":
                    return str(event["model"]["id"])
        raise BackendError("upstream_failed", "the server left before the end")

    def stream_chat(
        self, model: str | None, messages: Sequence[Mapping[str, str]], settings: Mapping[str, Any]
    ) -> Generator[str]:
        """Yield an answer piece by piece; closing the iterator cancels it.

        :raises TabagentError: with the code of the server's error.
        """
        body = {"messages": messages, "stream": True, **settings}
        if model is not None:
            body["model"] = model
        with self._response("POST", "/v1/chat/completions", body) as response:
            _raise_for_status(response)
            for chunk in _events(response):
                for choice in chunk.get("choices", ()):
                    yield choice["delta"].get("content") or ""

    @contextmanager
    def _response(
        self, method: str, path: str, body: Any, *, patience: float | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._connection()
        try:
            connection.connect()
            connection.sock.settimeout(patience)
            data = None if body is None else msgspec.json.encode(body)
            connection.request(method, path, data, self._headers)
            yield connection.getresponse()
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._host, self._port
        if self._https:
            return http.client.HTTPSConnection(
                host, port, timeout=CONNECT_TIMEOUT, context=self._tls
            )
        return http.client.HTTPConnection(host, port, timeout=CONNECT_TIMEOUT)


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """Yield the data of server-sent events; raise the error that one carries."""
    while line := response.readline():
        field, _, data = line.strip().partition(b": ")
        if field == b"data" and data != b"[DONE]":
            event = _object(data)
            if "error" in event:
                raise _error(event)
            yield event


def _raise_for_status(response: http.client.HTTPResponse) -> None:
    if response.status >= 400:
        raise _error(_object(response.read()))


def _error(body: dict[str, Any]) -> TabagentError:
    error = body.get("error")
    if not isinstance(error, dict) or error.get("code") not in HTTP_STATUS:
        return BackendError("upstream_failed", f"the server answered {body}")
    return error_from_code(error["code"], str(error.get("message")))


def _object(data: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError:
        raise BackendError("upstream_failed", "the server's answer is not understood") from None
