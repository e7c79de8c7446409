"""Runs resumable responses: each is written to a log, which connections follow and leave."""

from __future__ import annotations

import logging
import math
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import anyio
from anyio import TASK_STATUS_IGNORED, CancelScope
from msgspec import Struct

from .bridge import Notify
from .errors import RequestError
from .events import TERMINAL_EVENTS, Failed, Recorded
from .response_store import MemoryResponseStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyio.abc import TaskGroup, TaskStatus

    from .engine import Engine
    from .requests import Principal, RecordRequest
    from .response_store import ResponseLog, ResponseStore
    from .stream import EventStream

__all__ = ["Follower", "Recorder", "RecorderLimits", "Recording"]

log = logging.getLogger("tabagent.core")


class RecorderLimits(Struct, frozen=True, kw_only=True):
    """How much is kept, and how long.

    Attributes:
        resume_ttl: Seconds that a response runs on while no connection follows it, and that it is
            kept after its end.
        response_bytes: Bytes of messages of one response.
        principal_bytes: Bytes of messages of all responses of one principal.
    """

    resume_ttl: float = 60.0
    response_bytes: int = 8 * 1024 * 1024
    principal_bytes: int = 32 * 1024 * 1024


class Recording:
    """One response on its way into its log; what `Recorder.prepare` returns.

    Its events cost no credit of a peer: once in the log they count as sent.

    Attributes:
        log: Its numbered messages; set when it has been started.
        remarks: Messages without a number, for those who follow at the time.
        ended: Whether the last message is in the log.
        counted: Bytes of the log that count towards what its principal may keep.
        life: Its deadline is when nobody is expected to come back any more.
    """

    log: ResponseLog

    def __init__(self, wanted: RecordRequest, stream: EventStream, resume_ttl: float) -> None:
        self.response_id = wanted.request.request_id
        self.principal = wanted.request.principal
        self.ended = False
        self.counted = 0
        self.stream = stream
        self.writer = wanted.writer
        self._resume_ttl = resume_ttl
        self.remarks: list[str] = []
        self._followers: set[Notify] = set()
        self.life = CancelScope()

    def cancel(self) -> None:
        """End the response soon."""
        self.stream.cancel()

    @contextmanager
    def follow(self, number: int) -> Iterator[Follower]:
        """Read the log from the message after `number`; use as `with` and iterate inside.

        :raises RequestError: `invalid_parameter` when there is no such number yet.
        """
        if not -1 <= number < len(self.log):
            text = f"starting_after: the last event so far has the number {len(self.log) - 1}"
            raise RequestError("invalid_parameter", text, param="starting_after")
        notify = Notify()
        self._followers.add(notify)
        if not self.ended:
            self.life.deadline = math.inf
        try:
            yield Follower(self, notify, number, len(self.remarks))
        finally:
            self._followers.discard(notify)
            if not self._followers and not self.ended:
                self.expect_somebody()

    def messages_after(self, number: int, remarks: int) -> tuple[list[str], int, int]:
        """Return the messages after a place in the log and in the remarks, and the new place."""
        messages = [*self.log.after(number), *self.remarks[remarks:]]
        return messages, len(self.log) - 1, len(self.remarks)

    def expect_somebody(self) -> None:
        """Let the life end unless somebody follows within the time to resume."""
        self.life.deadline = anyio.current_time() + self._resume_ttl

    def notify_followers(self) -> None:
        """Tell that there are more messages, or that there will be none."""
        for follower in self._followers:
            follower.notify()


class Follower:
    """Iterates over one response's messages, as the non-empty runs of those that are ready."""

    def __init__(self, recording: Recording, notify: Notify, number: int, remarks: int) -> None:
        self._recording = recording
        self._notify = notify
        self._number = number
        self._remarks = remarks
        self._told_end = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Recorded:
        if self._told_end:
            raise StopAsyncIteration
        recording = self._recording
        while True:
            messages, self._number, self._remarks = recording.messages_after(
                self._number, self._remarks
            )
            if messages or recording.ended:
                self._told_end = recording.ended
                return Recorded(recording.response_id, tuple(messages), recording.ended)
            await self._notify.wait()


class Recorder:
    """Runs the resumable responses of one engine. Use it as `async with`, inside the engine's.

    A response runs on for `resume_ttl` after its last follower has left; then it is cancelled and
    expires. Once ended it is kept for `resume_ttl`. Where a principal has too much in its logs,
    the oldest of its ended responses expire early; where that does not help, the response that
    grows fails.
    """

    def __init__(
        self,
        engine: Engine,
        store: ResponseStore | None = None,
        *,
        limits: RecorderLimits | None = None,
    ) -> None:
        self._engine = engine
        self._store = store or MemoryResponseStore()
        self._limits = limits or RecorderLimits()
        self._recordings: dict[str, Recording] = {}  # oldest first
        self._held: Counter[str] = Counter()  # bytes in the logs of each principal
        self._tasks: TaskGroup

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)

    @property
    def running(self) -> int:
        """How many responses are being written."""
        return sum(not recording.ended for recording in self._recordings.values())

    def prepare(self, wanted: RecordRequest) -> Recording:
        """Return a recording that `start` starts; it can be cancelled before that."""
        stream = self._engine.generate(wanted.request)
        return Recording(wanted, stream, self._limits.resume_ttl)

    async def start(self, recording: Recording) -> None:
        """Admit the request; from then on it can be followed and found.

        :raises TabagentError: why the request was refused.
        """
        await self._tasks.start(self._run, recording)

    def find(self, response_id: str, principal: Principal) -> Recording:
        """Return a response of `principal` that runs or is kept.

        :raises RequestError: `resume_expired` or `response_not_found`.
        """
        recording = self._recordings.get(response_id)
        if recording is not None and recording.life.cancel_called:
            self._expire(recording)
        self._store.check(response_id, principal)
        return self._recordings[response_id]

    async def _run(
        self, recording: Recording, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED
    ) -> None:
        with recording.life:
            async with recording.stream as stream:
                if stream.refusal is not None:
                    raise stream.refusal
                recording.log = self._store.create(recording.response_id, recording.principal)
                self._recordings[recording.response_id] = recording
                recording.writer.write_to(recording.log.append, recording.remarks.append)
                recording.writer.open(stream.model)
                recording.expect_somebody()
                task_status.started()
                try:
                    await self._write(recording, stream)
                except Exception:
                    log.exception("the response %s cannot be written", recording.response_id)
            recording.ended = True
            recording.notify_followers()
            recording.expect_somebody()
            await anyio.sleep_forever()
        self._expire(recording)

    async def _write(self, recording: Recording, stream: EventStream) -> None:
        async for events in stream:
            for event in events:
                recording.writer.send_event(event)
            recording.notify_followers()
            self._count(recording)
            if not isinstance(events[-1], TERMINAL_EVENTS) and not self._has_room(recording):
                text = "a resumable response has grown beyond what is kept"
                full = RequestError("overloaded", text)
                recording.writer.send_event(Failed(recording.response_id, full))
                return

    def _count(self, recording: Recording) -> None:
        self._held[recording.principal.id] += recording.log.size - recording.counted
        recording.counted = recording.log.size

    def _has_room(self, recording: Recording) -> bool:
        if recording.log.size > self._limits.response_bytes:
            return False
        owner, most = recording.principal.id, self._limits.principal_bytes
        if self._held[owner] > most:
            for other in list(self._recordings.values()):
                if other.ended and other.principal.id == owner and self._held[owner] > most:
                    self._expire(other)
        return self._held[owner] <= most

    def _expire(self, recording: Recording) -> None:
        if self._recordings.pop(recording.response_id, None) is not None:
            self._held[recording.principal.id] -= recording.counted
            self._store.expire(recording.response_id)
            recording.life.cancel()
