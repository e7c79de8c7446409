"""A small Hugging Face Hub at 127.0.0.1: its API, its redirects and its storage, on two ports.

It answers as the real one does where a client may notice: the listing of a repository with sizes
and hashes, redirects of large files to a storage host that must never see the token, ETags, ranges,
gated and unknown repositories with their `X-Error-Code`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from msgspec import Struct, field

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["COMMIT", "GOOD_TOKEN", "LocalHub", "Repo", "local_hub"]

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GOOD_TOKEN = "hf_accepted"


class Repo(Struct):
    """A repository: its large files, its small ones, and what goes wrong with it."""

    files: dict[str, bytes]
    small: dict[str, bytes] = field(default_factory=dict)
    gated: bool = False
    announced_size: int | None = None  # of every large file, in place of the true one
    corrupt: bool = False
    ignores_ranges: bool = False


class LocalHub:
    """What the servers hold and have seen."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.ranges: list[str | None] = []  # of each download, in order
        self.storage_tokens: list[str | None] = []
        self.url = self.storage_url = ""
        self.cut_after: int | None = None  # bytes after which the next download loses its peer
        self.hold_after: int | None = None  # bytes after which downloads stand still
        self.release = threading.Event()

    def listing(self, repo_id: str, repo: Repo) -> dict[str, Any]:
        siblings: list[dict[str, Any]] = []
        for name, data in repo.files.items():
            size = repo.announced_size or len(data)
            sha256 = hashlib.sha256(data).hexdigest()
            lfs = {"sha256": sha256, "size": size, "pointerSize": 134}
            siblings.append({"rfilename": name, "size": size, "blobId": "0" * 40, "lfs": lfs})
        for name, data in repo.small.items():
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            siblings.append({"rfilename": name, "size": len(data), "blobId": blob})
        gated = "manual" if repo.gated else False
        return {"id": repo_id, "sha": COMMIT, "gated": gated, "siblings": siblings, "tags": []}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LocalHub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, code: str, text: str) -> None:
        body = json.dumps({"error": text}).encode()
        self._answer(status, body, X_Error_Code=code, X_Error_Message=text)


class _HubHandler(_Handler):
    """huggingface.co."""

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        is_listing = parts[:2] == ["api", "models"]
        repo_id = "/".join(parts[2:4] if is_listing else parts[:2])
        rest = parts[4:] if is_listing else parts[2:]
        repo = self.hub.repos.get(repo_id)
        if repo is None:
            self._refuse(401, "RepoNotFound", "Invalid username or password.")
        elif is_listing:
            self._list(repo_id, repo, rest)
        else:
            self._resolve(repo_id, repo, rest)

    def _list(self, repo_id: str, repo: Repo, rest: list[str]) -> None:
        assert parse_qs(urlsplit(self.path).query)["blobs"] in (["true"], ["True"])
        if rest and rest[1] not in {"main", COMMIT}:
            self._refuse(404, "RevisionNotFound", "Invalid rev id")
            return
        body = json.dumps(self.hub.listing(repo_id, repo)).encode()
        self._answer(200, body, Content_Type="application/json")

    def _resolve(self, repo_id: str, repo: Repo, rest: list[str]) -> None:
        assert rest[:2] == ["resolve", COMMIT]
        name, token = "/".join(rest[2:]), self.headers["Authorization"]
        if repo.gated and token != f"Bearer {GOOD_TOKEN}":
            self._refuse(403 if token else 401, "GatedRepo", f"Access to {repo_id} is restricted.")
        elif name in repo.small:
            self._answer(200, repo.small[name], X_Repo_Commit=COMMIT)
        else:
            etag = f'"{hashlib.sha256(repo.files[name]).hexdigest()}"'
            place = f"{self.hub.storage_url}/{quote(f'{repo_id}/{name}')}?signed=1"
            self._answer(302, Location=place, X_Repo_Commit=COMMIT, X_Linked_ETag=etag)


class _StorageHandler(_Handler):
    """The storage that large files are redirected to."""

    def do_GET(self) -> None:
        hub = self.hub
        owner, name, path = unquote(urlsplit(self.path).path).lstrip("/").split("/", 2)
        repo = hub.repos[f"{owner}/{name}"]
        data = repo.files[path]
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        if repo.corrupt:
            data = bytes(len(data))
        wanted = self.headers["Range"]
        hub.ranges.append(wanted)
        hub.storage_tokens.append(self.headers["Authorization"])
        start = 0
        if wanted and not repo.ignores_ranges:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("ETag", etag)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self._send(data[start:])

    def _send(self, data: bytes) -> None:
        hub = self.hub
        if hub.cut_after is not None:
            self.wfile.write(data[: hub.cut_after])
            hub.cut_after = None
            self.close_connection = True
            return
        try:
            if hub.hold_after is not None:
                self.wfile.write(data[: hub.hold_after])
                hub.release.wait()
                data = data[hub.hold_after :]
            self.wfile.write(data)
        except ConnectionError:
            self.close_connection = True


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    """Run a Hub."""
    hub = LocalHub()
    servers = []
    for base in (_HubHandler, _StorageHandler):
        handler = type(base.__name__, (base,), {"hub": hub})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    # Another name makes the storage another host, as it is.
    hub.url = f"http://127.0.0.1:{servers[0].server_port}"
    hub.storage_url = f"http://localhost:{servers[1].server_port}"
    try:
        yield hub
    finally:
        hub.release.set()
        for server in servers:
            server.shutdown()
            server.server_close()
