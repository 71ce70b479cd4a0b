"""A worker's snapshot and what it says meanwhile: whatever is newer counts."""

import asyncio
from pathlib import Path
from typing import Any

from sfu.channel.link import pair
from sfu.channel.messages import ChannelMessage, Snapshot
from signaling.media import Worker
from tests.until import until

TRACK = {
    "participant_id": "p",
    "track_id": "t",
    "kind": "audio",
    "source": "microphone",
    "muted": False,
    "processors": {},
    "epoch": 0,
    "bypassed": "late",
}


class Told:
    """What was heard, in its order."""

    def __init__(self) -> None:
        self.states: list[str] = []

    def synced(self, worker: int, snapshot: Snapshot, first: bool) -> None:
        self.states += [f"snapshot {track.bypassed}" for track in snapshot.tracks]

    def notified(self, message: ChannelMessage) -> None:
        self.states.append(str(message.model_dump()["state"]))


async def test_what_is_said_right_after_a_snapshot_counts_more() -> None:
    ours, workers = await pair()

    async def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
        change = {"track_id": "t", "state": "on", "reason": ""}
        asyncio.get_running_loop().call_soon(workers.notify, "processing_state", change)  # right behind the answer
        return {"rooms": {}, "participants": [], "tracks": [TRACK]}

    told = Told()
    worker = Worker(0, Path("nowhere.sock"), told)
    workers.on_request = answer
    ours.on_notify = worker._notify
    workers.start()
    ours.start()
    session = asyncio.create_task(worker._session(ours))
    try:
        await until(lambda: "" if len(told.states) == 2 else "both")
        assert told.states == ["snapshot late", "on"]
    finally:
        session.cancel()
        await asyncio.gather(session, return_exceptions=True)
        await ours.close()
        await workers.close()
