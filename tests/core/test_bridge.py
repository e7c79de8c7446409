"""Threads reach the loop in order, without waiting and without needless wake-ups."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVarTuple

import anyio
import pytest
from anyio import to_thread
from tabagent.core.bridge import Notify, Producer, ThreadBridge, WakeupReader
from tabagent.core.events import PromptProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tabagent.core.events import Event

pytestmark = pytest.mark.anyio

Ts = TypeVarTuple("Ts")


class Received:
    """A sink that says when enough has come."""

    def __init__(self, expected: int) -> None:
        self.events: list[Event] = []
        self.calls = 0
        self.complete = anyio.Event()
        self._expected = expected

    def __call__(self, events: Sequence[Event]) -> None:
        self.calls += 1
        self.events += events
        if len(self.events) == self._expected:
            self.complete.set()


class CountingLoop:
    """Stands in for the loop and counts the wake-ups that threads ask for."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.wakeups = 0

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        self.wakeups += 1
        self._loop.call_soon_threadsafe(callback)

    def is_closed(self) -> bool:
        return self._loop.is_closed()


def progress(number: int) -> PromptProgress:
    return PromptProgress("r", number, 1000)


async def test_a_notification_wakes_the_waiter() -> None:
    notify = Notify()
    woken = anyio.Event()

    async def wait() -> None:
        await notify.wait()
        woken.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert not woken.is_set()
        notify.notify()
        notify.notify()
        await woken.wait()


async def test_a_notification_that_nobody_awaits_is_kept_once() -> None:
    notify = Notify()
    notify.notify()
    notify.notify()
    await notify.wait()
    with anyio.move_on_after(0) as scope:
        await notify.wait()
    assert scope.cancelled_caught


async def test_a_cancelled_wait_leaves_the_next_one_working() -> None:
    notify = Notify()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await notify.wait()
    notify.notify()
    await notify.wait()


async def test_events_of_a_thread_arrive_in_order() -> None:
    bridge, received = ThreadBridge(), Received(1000)

    def work() -> None:
        for number in range(1000):
            assert bridge.post(received, [progress(number)])

    await to_thread.run_sync(work)
    await received.complete.wait()
    assert received.events == [progress(number) for number in range(1000)]


async def test_many_threads_lose_nothing() -> None:
    bridge, received = ThreadBridge(), Received(8 * 500)

    def work() -> None:
        for number in range(500):
            bridge.post(received, [progress(number)])

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(to_thread.run_sync, work)
    await received.complete.wait()
    assert sorted(event.done for event in received.events if isinstance(event, PromptProgress)) == [
        number for number in range(500) for _ in range(8)
    ]


async def test_one_wake_up_carries_all_that_was_posted_meanwhile() -> None:
    bridge, received = ThreadBridge(), Received(100)
    loop = CountingLoop()
    bridge._loop = loop  # type: ignore[assignment]
    for number in range(100):
        bridge.post(received, [progress(number)])
    await received.complete.wait()
    assert loop.wakeups == 1
    bridge.post(received, [progress(100)])
    assert loop.wakeups == 2


def test_posting_to_a_closed_loop_says_so_and_stops_the_producer() -> None:
    async def make() -> ThreadBridge:
        return ThreadBridge()

    bridge = asyncio.run(make())
    received = Received(1)
    assert not bridge.post(received, [progress(0)])
    assert not bridge.post(received, [progress(1)])
    producer = Producer(bridge, received, credit=5, stall_timeout=1)
    assert producer.take_credit()
    producer.emit(progress(2))
    assert not producer.take_credit()
    assert received.events == []


async def test_a_producer_gets_as_many_tokens_as_it_has_credit_for() -> None:
    producer = Producer(ThreadBridge(), Received(0), credit=2, stall_timeout=60)
    taken = [0]

    def work() -> None:
        while producer.take_credit():
            taken[0] += 1
            if taken[0] in {2, 5}:
                asked.release()

    asked = threading.Semaphore(0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(to_thread.run_sync, work)
        await to_thread.run_sync(asked.acquire)
        producer.grant(3)
        await to_thread.run_sync(asked.acquire)
        producer.cancel()
    assert taken == [5]


async def test_a_producer_without_credit_for_too_long_is_cancelled() -> None:
    producer = Producer(ThreadBridge(), Received(0), credit=0, stall_timeout=0.001)
    assert not await to_thread.run_sync(producer.take_credit)
    producer.grant(1)
    assert not producer.take_credit()


class NativeQueue:
    """Does what a native engine does: one byte when there is something, none before a drain."""

    def __init__(self, fileno: int) -> None:
        self._fileno = os.dup(fileno)
        self._lock = threading.Lock()
        self._items: list[int] = []
        self._announced = False
        self.bytes_written = 0

    def put(self, item: int) -> None:
        with self._lock:
            self._items.append(item)
            if not self._announced:
                self._announced = True
                self.bytes_written += 1
                os.write(self._fileno, b"\0")

    def drain(self) -> list[int]:
        with self._lock:
            self._announced = False
            items, self._items = self._items, []
            return items

    def close(self) -> None:
        os.close(self._fileno)


async def carry_through_a_wakeup_reader(count: int) -> list[int]:
    """Send numbers from a thread and return what the loop drained."""
    drained: list[int] = []
    complete = anyio.Event()

    def drain() -> None:
        drained.extend(queue.drain())
        if len(drained) >= count:
            complete.set()

    reader = WakeupReader(drain)
    queue = NativeQueue(reader.fileno())

    def work() -> None:
        for number in range(count):
            queue.put(number)

    await to_thread.run_sync(work)
    with anyio.fail_after(20):
        await complete.wait()
    reader.close()
    reader.close()
    queue.close()
    return drained


async def test_a_native_thread_reaches_the_loop() -> None:
    assert await carry_through_a_wakeup_reader(5000) == list(range(5000))


async def test_a_closed_reader_does_not_drain() -> None:
    drained: list[None] = []
    reader = WakeupReader(lambda: drained.append(None))
    queue = NativeQueue(reader.fileno())
    queue.put(1)
    reader.close()
    await anyio.wait_all_tasks_blocked()
    queue.close()
    assert drained == []


class ProactorLike(asyncio.SelectorEventLoop):
    """A loop that, like the one of Windows, cannot watch a file number."""

    def add_reader(self, fd: Any, callback: Callable[[*Ts], Any], *args: *Ts) -> None:
        raise NotImplementedError


def test_a_native_thread_reaches_a_loop_without_readers() -> None:
    with asyncio.Runner(loop_factory=ProactorLike) as runner:
        drained = runner.run(carry_through_a_wakeup_reader(5000))
    assert drained == list(range(5000))


def test_on_a_loop_without_readers_a_failing_drain_does_not_end_the_reading(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail_once() -> None:
        failed, again = anyio.Event(), anyio.Event()

        def drain() -> None:
            queue.drain()
            if failed.is_set():
                again.set()
            else:
                failed.set()
                raise RuntimeError("first round")

        reader = WakeupReader(drain)
        queue = NativeQueue(reader.fileno())
        with anyio.fail_after(20):
            queue.put(1)
            await failed.wait()
            queue.put(2)
            await again.wait()
        reader.close()
        queue.close()

    with asyncio.Runner(loop_factory=ProactorLike) as runner:
        runner.run(fail_once())
    assert "draining failed" in caplog.text
