"""Where threads meet the event loop: worker threads on one side, tasks on the other.

The only module of the core that names asyncio. Nothing here makes a worker thread wait for the
loop, except a producer that is out of credit.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from queue import Empty, SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .backend import EventSink
    from .events import Event

__all__ = ["Notify", "Producer", "ThreadBridge", "WakeupReader"]

log = logging.getLogger("tabagent.core")


class Notify:
    """Wakes the one task that waits; a notification that nobody waits for is kept for the next.

    A wait may end early, so the waiter checks its condition in a loop; a cancelled wait may
    swallow a notification, so the condition lives outside. Cheaper than an `anyio.Event`, which
    serves once and schedules its waiters twice.
    """

    __slots__ = ("_notified", "_waiter")

    def __init__(self) -> None:
        self._notified = False
        self._waiter: asyncio.Future[None] | None = None

    def notify(self) -> None:
        """Wake the waiter, now or when it comes. Call on the loop's thread."""
        self._notified = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Return once notified since the last wait. One task at a time."""
        if not self._notified:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._notified = False


class ThreadBridge:
    """Carries events from worker threads to sinks on the event loop, in order.

    Create it on the loop's thread. However many events are posted, at most one wake-up of the
    loop is pending.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._posted: deque[tuple[EventSink, Sequence[Event]]] = deque()
        self._wakeup_pending = Lock()  # held while a wake-up is on its way; nobody waits for it

    def post(self, sink: EventSink, events: Sequence[Event]) -> bool:
        """Hand events to `sink` on the loop's thread; callable from any thread, never blocks.

        False means that the loop is closed and nobody is left to tell.
        """
        self._posted.append((sink, events))
        if self._wakeup_pending.acquire(blocking=False):
            try:
                self._loop.call_soon_threadsafe(self._dispatch)
            except RuntimeError:  # closed: the lock stays held, so this is not tried again
                self._posted.clear()
                return False
        return not self._loop.is_closed()

    def _dispatch(self) -> None:
        # Released before the deque is read: what is posted from here on brings its own wake-up.
        self._wakeup_pending.release()
        for _ in range(len(self._posted)):
            sink, events = self._posted.popleft()
            sink(events)


class Producer:
    """The producing end of one request, shared by the loop and one worker thread.

    The worker calls `take_credit` before each token and ends the request as cancelled when that
    says no; the loop calls `grant` and `cancel`, which never block.
    """

    def __init__(
        self, bridge: ThreadBridge, sink: EventSink, credit: int, stall_timeout: float
    ) -> None:
        self._bridge = bridge
        self._sink = sink
        self._credit = credit  # the worker's own; the loop adds to it through `_grants`
        self._grants: SimpleQueue[int] = SimpleQueue()
        self._stall_timeout = stall_timeout
        self._cancelled = False

    def grant(self, tokens: int) -> None:
        """Give back credit for tokens that have been sent."""
        self._grants.put(tokens)

    def cancel(self) -> None:
        """Make `take_credit` say no from now on."""
        self._cancelled = True
        self._grants.put(0)

    def emit(self, *events: Event) -> None:
        """Post events of the request to the loop."""
        if not self._bridge.post(self._sink, events):
            self._cancelled = True

    def take_credit(self) -> bool:
        """Take the credit of one token, waiting for it up to the stall time-out (seconds)."""
        while not self._cancelled:
            try:
                while True:
                    self._credit += self._grants.get_nowait()
            except Empty:
                pass
            if self._credit > 0:
                self._credit -= 1
                return True
            try:
                self._credit += self._grants.get(timeout=self._stall_timeout)
            except Empty:
                self._cancelled = True
        return False


class WakeupReader:
    """Calls `drain` on the loop's thread when a native thread has written to a socket pair.

    The writer sends one byte when there is something to drain and none again before `drain` has
    been called. Create it on the loop's thread; hand `fileno` to the writer.
    """

    def __init__(self, drain: Callable[[], object]) -> None:
        self._drain = drain
        self._loop = asyncio.get_running_loop()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._task: asyncio.Task[None] | None = None
        try:
            self._loop.add_reader(self._reader, self._on_readable)
        except NotImplementedError:  # the proactor loop of Windows
            self._task = self._loop.create_task(self._read_forever())

    def fileno(self) -> int:
        """The file number of the end to write to; ours, so the writer duplicates it."""
        return self._writer.fileno()

    def close(self) -> None:
        """Stop reading and close both ends; `drain` is not called any more."""
        if self._task is not None:
            self._task.cancel()
        elif self._reader.fileno() >= 0:
            self._loop.remove_reader(self._reader)
        self._reader.close()
        self._writer.close()

    def _on_readable(self) -> None:
        # Emptied before draining: a byte that comes later announces what this drain may miss.
        try:
            self._reader.recv(64)
        except BlockingIOError:
            return
        self._drain()

    async def _read_forever(self) -> None:
        while await self._loop.sock_recv(self._reader, 64):
            try:
                self._drain()
            except Exception:  # as with `add_reader`: one bad round must not end the reading
                log.exception("draining failed")
