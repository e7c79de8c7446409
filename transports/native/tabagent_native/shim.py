"""The process a browser starts: relays frames between its pipes and the running server.

Standard library only, run under `python3 -IS` as `shim.py STATE_FOLDER CALLER...`. A browser waits
for it on every connect, so nothing is imported before it is needed.
"""

from __future__ import annotations

import _socket  # `socket` would add half as much again to the start-up time
import _thread
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping
    from typing import Any, BinaryIO

PROTOCOL_VERSION = 1
HOST_NAME = "com.tabagent.host"
CHROMIUM_MANIFEST = f"{HOST_NAME}.json"
FIREFOX_MANIFEST = f"{HOST_NAME}.firefox.json"
SOCKET_NAME = "native.sock"
PORT_FILE = "native.port"
LOG_NAME = "server.log"
HELLO_PREFIX = '{"type":"tabagent.hello"'
ECHOED_IDS = ("action", "requestId", "chatId", "messageId", "loadId")

SERVER_COMMAND = [sys.executable, "-P", "-m", "tabagent", "serve", "--daemon"]

LOOPBACK_TCP = os.name == "nt"
"""Whether the server is reached over loopback TCP: Windows has no Unix sockets for Python."""

HELLO_TIMEOUT = 10.0
START_TIMEOUT = 30.0
POLL_INTERVAL = 0.02
FIRST_MESSAGE_TIMEOUT = 0.5
MAX_LOG_SIZE = 4 * 1024 * 1024
BUFFER_SIZE = 64 * 1024


class HostError(Exception):
    """Why the browser gets an error frame instead of the server's answers."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Browser:
    """The browser's end: standard input, and a copy of standard output that only frames reach."""

    def __init__(self) -> None:
        self._output = os.dup(1)
        os.dup2(2, 1)  # a stray print, here or in a child, must not break the framing
        if sys.platform == "win32":
            import msvcrt

            msvcrt.setmode(0, os.O_BINARY)
            msvcrt.setmode(self._output, os.O_BINARY)
        self._first = b""
        self._first_read = _thread.allocate_lock()
        self._first_read.acquire()
        self._connected = _thread.allocate_lock()
        self._connected.acquire()
        self._server: _socket.socket | None = None

    def start_reading(self) -> None:
        """Read in a thread of its own: the end of the input ends the process at any time."""
        _thread.start_new_thread(self._read, ())

    def connect(self, server: _socket.socket) -> None:
        """Let what the browser sends go to `server`."""
        self._server = server
        self._connected.release()

    def write(self, data: bytes) -> None:
        """Write frames, or a part of one."""
        try:
            while data:
                data = data[os.write(self._output, data) :]
        except OSError:
            os._exit(0)  # the browser is gone

    def report(self, error: HostError) -> None:
        """Answer the first message with an error, in the dialect that it speaks."""
        import json

        self._first_read.acquire(timeout=FIRST_MESSAGE_TIMEOUT)
        try:
            message = json.loads(self._first[4:])
        except ValueError:
            message = None
        fields = message if isinstance(message, dict) else {}
        answer: dict[str, object]
        if "action" in fields:
            ids = {name: fields[name] for name in ECHOED_IDS if name in fields}
            answer = {"status": "error", **ids, "code": error.code, "error": error.message}
        else:
            kind = "permission_error" if error.code == "origin_not_allowed" else "server_error"
            body = {"message": error.message, "type": kind, "code": error.code, "param": None}
            answer = {"type": "error", "error": body}
            if isinstance(fields.get("stream_id"), str):
                answer["stream_id"] = fields["stream_id"]
        self.write(encode_frame(json.dumps(answer)))

    def _read(self) -> None:
        data = self._first = os.read(0, BUFFER_SIZE)
        if data:
            self._first_read.release()
            self._connected.acquire()
        while data:
            assert self._server is not None
            try:
                self._server.sendall(data)
            except OSError:
                return  # the server is gone; the other direction reports it
            data = os.read(0, BUFFER_SIZE)
        os._exit(0)


def run(browser: Browser, state: str, caller: list[str]) -> None:
    """Relay until the server closes the connection, and start the server when there is none."""
    extension = allowed_caller(caller, os.path.dirname(os.path.abspath(__file__)))
    server, key = connect_or_start(state, socket_folders(state, os.environ))
    shake_hands(server, extension, key)
    browser.connect(server)
    if relay(server, browser):
        raise HostError("shutting_down", "the server has closed the connection")


def allowed_caller(arguments: list[str], folder: str) -> str:
    """Return the extension that started this process, when the installed manifest names it.

    Chromium browsers pass its origin; Firefox passes the manifest's path and the add-on's id.
    """
    caller, manifest, key = "".join(arguments[:1]), CHROMIUM_MANIFEST, '"allowed_origins"'
    if not caller.startswith("chrome-extension://"):
        caller, manifest, key = "".join(arguments[1:2]), FIREFOX_MANIFEST, '"allowed_extensions"'
    if not caller or not caller.isprintable() or '"' in caller or "\\" in caller:
        raise HostError("origin_not_allowed", "the browser does not say which extension calls")
    try:
        with open(os.path.join(folder, manifest), encoding="utf-8") as file:
            allowed = file.read().partition(key)[2]
    except FileNotFoundError:
        allowed = ""
    if f'"{caller}"' not in allowed:
        text = f"{caller} may not call; allow it with: tabagent host install EXTENSION_ID"
        raise HostError("origin_not_allowed", text)
    return caller


def socket_folders(state: str, environ: Mapping[str, str]) -> list[str]:
    """Return the folders where the server's socket may be; a server takes the first one.

    There can be two because the environments of the server and of the browser may differ.
    """
    folders = [os.path.join(state, "run")]
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime and not environ.get("TABAGENT_HOME"):
        folders.insert(0, os.path.join(runtime, "tabagent"))
    return folders


def connect(folders: list[str]) -> tuple[_socket.socket, str] | None:
    """Connect to the running server, if any; return the socket and the key its hello needs."""
    for folder in folders:
        try:
            return connect_tcp(folder) if LOOPBACK_TCP else connect_unix(folder)
        except (FileNotFoundError, ConnectionRefusedError):
            continue
        except OSError as error:
            raise HostError("upstream_failed", f"cannot connect in {folder}: {error}") from None
    return None


def connect_unix(folder: str) -> tuple[_socket.socket, str]:
    """Connect to the socket in a folder that nobody else can enter."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise PermissionError("others can enter the folder; it must be yours, with mode 0700")
        os.fchdir(descriptor)  # the path of a socket is limited to about 100 bytes
        server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        server.connect(SOCKET_NAME)
    finally:
        os.close(descriptor)
    return server, ""


def connect_tcp(folder: str) -> tuple[_socket.socket, str]:
    """Connect to the port that the folder's port file names, with a key made by each server."""
    with open(os.path.join(folder, PORT_FILE), encoding="ascii") as file:
        port, key = file.read().split()
    server = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    server.connect(("127.0.0.1", int(port)))
    server.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    return server, key


def connect_or_start(state: str, folders: list[str]) -> tuple[_socket.socket, str]:
    """Connect to the server; when there is none start it, unless another shim is at it."""
    connection = connect(folders)
    if connection:
        return connection
    import time

    deadline = time.monotonic() + START_TIMEOUT
    log_path = os.path.join(state, LOG_NAME)
    os.makedirs(folders[0], mode=0o700, exist_ok=True)
    with open(os.path.join(folders[0], "start.lock"), "ab") as lock:
        started: StartedServer | None = None
        while time.monotonic() < deadline:
            ended = started is not None and started.has_ended()
            connection = connect(folders)
            if connection:
                return connection
            if started is None and lock_file(lock.fileno()):
                started = StartedServer(state, log_path, lock.fileno())
            elif started is not None and ended:
                text = f"the server cannot start: {started.last_words()} (see {log_path})"
                raise HostError("upstream_failed", text)
            time.sleep(POLL_INTERVAL)
    text = f"the server did not start within {START_TIMEOUT:.0f} s (see {log_path})"
    raise HostError("upstream_failed", text)


def lock_file(descriptor: int) -> bool:
    """Lock an open file without waiting; return whether that worked."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class StartedServer:
    """A server just started: detached from the browser, its output in `server.log`.

    It inherits the start lock, so while it lives nobody starts another one.
    """

    def __init__(self, state: str, log_path: str, lock: int) -> None:
        os.makedirs(state, mode=0o700, exist_ok=True)
        if os.path.exists(log_path) and os.path.getsize(log_path) > MAX_LOG_SIZE:
            os.replace(log_path, f"{log_path}.1")
        self._log_path = log_path
        descriptor = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with open(descriptor, "ab") as log:
            self._log_start = os.fstat(descriptor).st_size
            self._process = spawn_detached(SERVER_COMMAND, state, log, lock)

    def has_ended(self) -> bool:
        """Whether it is no longer running."""
        return self._process.poll() is not None

    def last_words(self) -> str:
        """Return the last line that it wrote, or its exit status."""
        with open(self._log_path, encoding="utf-8", errors="replace") as log:
            log.seek(self._log_start)
            lines = log.read().split("\n")
        written = [line.strip() for line in lines if line.strip()]
        return written[-1][:500] if written else f"it ended with {self._process.returncode}"


def spawn_detached(
    command: list[str], folder: str, log: BinaryIO, lock: int
) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one and the browser."""
    import subprocess

    def popen(**options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options
        )

    if sys.platform == "win32":
        alone = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        try:  # Firefox ends the job that its hosts are in; other jobs may not be left
            return popen(creationflags=alone | subprocess.CREATE_BREAKAWAY_FROM_JOB)
        except PermissionError:
            return popen(creationflags=alone)
    else:
        return popen(start_new_session=True, pass_fds=(lock,))


def shake_hands(server: _socket.socket, extension: str, key: str) -> None:
    """Say who calls; the server answers, or refuses with an error message."""
    server.settimeout(HELLO_TIMEOUT)
    fields = f'"protocol":{PROTOCOL_VERSION},"origin":"{extension}","key":"{key}"'
    try:
        server.sendall(encode_frame(f"{HELLO_PREFIX},{fields}}}"))
        size = int.from_bytes(receive_exactly(server, 4), sys.byteorder)
        answer = receive_exactly(server, min(size, BUFFER_SIZE)).decode()
    except OSError as error:
        raise HostError("upstream_failed", f"the server does not answer: {error}") from None
    server.settimeout(None)
    if not answer.startswith(HELLO_PREFIX):
        import json

        refusal = json.loads(answer)["error"]
        raise HostError(refusal["code"], refusal["message"])


def receive_exactly(server: _socket.socket, size: int) -> bytes:
    """Return the next `size` bytes."""
    data = b""
    while len(data) < size:
        more = server.recv(size - len(data))
        if not more:
            raise ConnectionResetError("the connection was closed")
        data += more
    return data


def relay(server: _socket.socket, browser: Browser) -> bool:
    """Pass on what the server sends until it closes; return whether it ended with a whole frame."""
    header = b""
    missing = 0
    while data := receive(server):
        browser.write(data)
        position = 0
        while position < len(data):
            if missing:
                step = min(missing, len(data) - position)
                missing -= step
            else:
                step = min(4 - len(header), len(data) - position)
                header += data[position : position + step]
                if len(header) == 4:
                    missing = int.from_bytes(header, sys.byteorder)
                    header = b""
            position += step
    return not missing and not header


def receive(server: _socket.socket) -> bytes:
    """Return the next bytes; none when the connection has ended, in whatever way."""
    try:
        return server.recv(BUFFER_SIZE)
    except OSError:
        return b""


def encode_frame(text: str) -> bytes:
    """Return a Native Messaging frame."""
    message = text.encode()
    return len(message).to_bytes(4, sys.byteorder) + message


def main() -> None:
    """Run until the browser or the server closes; ends the process."""
    if len(sys.argv) < 2:
        sys.exit("usage: shim.py STATE_FOLDER CALLER...  (started by a browser)")
    try:
        browser = Browser()
        browser.start_reading()
        try:
            run(browser, sys.argv[1], sys.argv[2:])
        except HostError as error:
            sys.stderr.write(f"tabagent: {error}\n")
            browser.report(error)
        except OSError as error:
            browser.report(HostError("upstream_failed", f"the server cannot start: {error}"))
    except KeyboardInterrupt:  # goes to all that the terminal's browser started
        pass
    os._exit(1)  # the reading thread may be waiting for input


if __name__ == "__main__":
    main()
