"""Desired state reaches the worker, whatever happens on the way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sfu.channel.messages import ChannelMessage, DropRoom, PutRoom, SetMuted
from signaling import desired
from signaling.desired import DesiredState
from signaling.errors import MediaError
from signaling.protocol.codes import ErrorCode
from tests.until import until


class Worker:
    """Records what arrives; fails while told to."""

    def __init__(self) -> None:
        self.got: list[ChannelMessage] = []
        self.failing: ErrorCode | None = None
        self.attempts = 0
        self.refusals = 0

    async def send(self, method: str, message: ChannelMessage) -> None:
        self.attempts += 1
        await asyncio.sleep(0)
        if self.failing is not None:
            self.refusals += 1
            raise MediaError(self.failing, "not now")
        self.got.append(message)


@asynccontextmanager
async def running(state: DesiredState) -> AsyncIterator[None]:
    task = asyncio.create_task(state.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def muted(value: bool) -> SetMuted:
    return SetMuted(track_id="t", muted=value)


async def test_many_changes_become_one_request_and_repeats_none() -> None:
    worker = Worker()
    state = DesiredState(worker.send)
    values = [True]
    for value in (True, False, True):
        values[0] = value
        state.want("set_muted", "t", lambda: muted(values[0]))
    async with running(state):
        await until(lambda: "" if worker.got else "a request")
        state.want("set_muted", "t", lambda: muted(values[0]))
        values[0] = False
        state.want("set_muted", "t", lambda: muted(values[0]))
        await until(lambda: "" if len(worker.got) == 2 else "the change")
    assert worker.got == [muted(True), muted(False)]


async def test_what_failed_for_now_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desired, "TICK_S", 0.01)
    worker = Worker()
    worker.failing = ErrorCode.TIMEOUT
    state = DesiredState(worker.send)
    with pytest.raises(MediaError):
        await state.put("set_muted", "t", lambda: muted(True))
    async with running(state):
        await until(lambda: "" if worker.attempts > 2 else "another attempt")
        worker.failing = None
        await until(lambda: "" if worker.got else "success")
    assert worker.got == [muted(True)]


async def test_what_was_refused_waits_until_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desired, "TICK_S", 0.01)
    worker = Worker()
    worker.failing = ErrorCode.NO_SUCH_TRACK
    state = DesiredState(worker.send)
    async with running(state):
        state.want("set_muted", "t", lambda: muted(True))
        await until(lambda: "" if worker.refusals else "a refusal")
        worker.failing = None
        state.want("set_muted", "u", lambda: muted(False))
        await until(lambda: "" if worker.got else "the other one")
        assert worker.attempts == 2
        state.want("set_muted", "t", lambda: muted(True))
        await until(lambda: "" if worker.got == [muted(False), muted(True)] else "the first one")


async def test_a_new_worker_gets_everything_in_the_old_order() -> None:
    worker = Worker()
    state = DesiredState(worker.send)
    room = PutRoom(room_id="r", state={})
    await state.put("put_room", "r", lambda: room)
    await state.put("set_muted", "t", lambda: muted(True))
    state.want("put_room", "r", lambda: room)
    worker.got.clear()
    state.reset()
    async with running(state):
        await until(lambda: "" if len(worker.got) == 2 else "both")
    assert worker.got == [room, muted(True)]


async def test_a_room_is_dropped_before_its_successor_opens() -> None:
    worker = Worker()
    state = DesiredState(worker.send)
    room, drop = PutRoom(room_id="r", state={}), DropRoom(room_id="r")
    await state.put("put_room", "r", lambda: room)
    state.want_once("drop_room", "r", lambda: drop)
    await state.send_drops()
    await state.put("put_room", "r", lambda: room)
    assert worker.got == [room, drop, room]
    state.reset()
    async with running(state):
        await until(lambda: "" if len(worker.got) == 4 else "the room again")
    assert worker.got[3] == room


async def test_what_is_doubted_is_sent_again_and_what_is_forgotten_is_not() -> None:
    worker = Worker()
    state = DesiredState(worker.send)
    await state.put("set_muted", "t", lambda: muted(True))
    await state.put("set_muted", "t", lambda: muted(True))
    assert len(worker.got) == 1
    state.doubt("set_muted", "t")
    await state.put("set_muted", "t", lambda: muted(True))
    assert len(worker.got) == 2
    state.want("set_muted", "t", lambda: muted(False))
    state.forget("t")
    async with running(state):
        await state.put("put_room", "r", lambda: PutRoom(room_id="r", state={}))
    assert len(worker.got) == 3
