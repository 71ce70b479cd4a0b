"""`candor bot play` and `candor bot listen`, against the scripted server."""

import argparse
import asyncio
from pathlib import Path

import numpy as np
import pytest

from bots import cli
from media_processors.findings import Caption
from signaling.protocol import messages as wire
from signaling.protocol.codes import CloseReason, ErrorCode
from tests.integration.test_bots_signaling import ScriptedServer, scripted
from tests.unit.bots.test_sources import write_wav
from tests.until import until

__all__ = ["scripted"]


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli.register(parser.add_subparsers())
    return parser.parse_args(["bot", *words])


async def run(*words: str) -> int:
    """As `candor bot ...` does, in a thread with a loop of its own."""
    args = arguments(*words)
    return int(await asyncio.to_thread(args.run, args))


async def test_play_publishes_the_file_and_leaves_at_its_end(scripted: ScriptedServer, tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    write_wav(path, np.zeros(9600, np.int16), 48_000)
    assert await run("play", str(path), "--url", scripted.url, "--room", "r", "--music") == 0
    assert scripted.requests("join")[0]["room_id"] == "r"
    assert [track["source"] for track in scripted.requests("publish")[0]["tracks"]] == ["music"]
    assert len(scripted.requests("leave")) == 1


async def test_play_says_why_it_cannot(
    scripted: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run("play", str(tmp_path / "missing.wav"), "--url", scripted.url) == 1
    assert "missing.wav" in capsys.readouterr().err
    path = tmp_path / "tone.wav"
    write_wav(path, np.zeros(960, np.int16), 48_000)
    scripted.refusals["join"] = [ErrorCode.ROOM_FULL]
    assert await run("play", str(path), "--url", scripted.url) == 1
    assert "room_full" in capsys.readouterr().err


async def test_listen_prints_final_captions_until_the_room_ends(
    scripted: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    listening = asyncio.create_task(run("listen", "--url", scripted.url))
    await until(lambda: "" if scripted.requests("join") else "the listener")
    person = wire.ParticipantInfo(
        participant_id="x", name="Xenia", host=False, bot=False, joined_at="2026-01-01T00:00:00Z", tracks=[]
    )
    await scripted.emit("participant_joined", wire.ParticipantJoined(participant=person))
    for final, text in ((False, "good mor"), (True, "good morning")):
        caption = Caption(
            room_id="r", participant_id="x", track_id="t", epoch=0, start_ms=0, end_ms=900, model="m@1", segment_id="s",
            rev=int(final), text=text, stable_chars=0, final=final, language="en", quality="test", latency_ms=350,
        )  # fmt: skip
        await scripted.emit("finding", wire.FindingEvent(finding=caption))
    await scripted.emit("closed", wire.Closed(reason=CloseReason.ROOM_ENDED))
    assert await listening == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "good mor" in line]
    assert lines == ["Xenia: good morning  (350 ms [test quality])"]


async def test_listen_stops_by_itself(scripted: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run("listen", "--url", scripted.url, "--seconds", "0.2") == 0
    assert "0 packets of 0 tracks received" in capsys.readouterr().out
