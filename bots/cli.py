"""`candor bot play` and `candor bot listen`: a file into a room, and a room onto the terminal."""

import argparse
import asyncio
import sys
from collections import Counter
from pathlib import Path

from bots.bot import MeetingBot
from bots.errors import BotError
from bots.publication import Publication
from bots.rtp_hook import RawRtp
from bots.sources import play_file
from media_processors.findings import Caption
from signaling.protocol import messages as wire

STATS_EVERY_S = 10.0


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `bot` with its two commands; `args.run` is then `run`."""
    bot = subparsers.add_parser("bot", help="a participant without a browser")
    commands = bot.add_subparsers(dest="bot_command", required=True)
    play = commands.add_parser("play", help="publish a sound or video file in a room")
    play.add_argument("file", type=Path)
    play.add_argument("--loop", action="store_true", help="begin again at the end, until interrupted")
    play.add_argument("--music", action="store_true", help="not speech: the server leaves the sound as it is")
    listen = commands.add_parser("listen", help="print the captions of a room, and what is received")
    listen.add_argument(
        "--seconds", type=float, default=None, help="stop after this time (default: when the room ends)"
    )
    for command in (play, listen):
        command.add_argument("--url", default="http://127.0.0.1:8080", help="of the server (default: %(default)s)")
        command.add_argument("--room", default="demo", help="default: %(default)s")
        command.add_argument("--name", default=f"Bot ({command.prog.split()[-1]})", help="default: %(default)s")
        command.add_argument("--token", default=None, help="needed where rooms are not open")
        command.add_argument("--insecure", action="store_true", help="accept a self-signed certificate")
    bot.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; 0 if it did what it should, 1 with a line on stderr if not."""
    command = _play if args.bot_command == "play" else _listen
    try:
        asyncio.run(command(args))
    except KeyboardInterrupt:
        return 0
    except (BotError, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _bot(args: argparse.Namespace, subscribe: bool) -> MeetingBot:
    return MeetingBot(args.url, args.room, args.name, args.token, subscribe=subscribe, verify_tls=not args.insecure)


async def _play(args: argparse.Namespace) -> None:
    file = await asyncio.to_thread(play_file, args.file, args.loop)
    async with _bot(args, subscribe=False) as bot:
        publications: list[Publication] = []
        if file.audio is not None:
            publications.append(await bot.publish_audio(file.audio, "music" if args.music else "microphone"))
        if file.video is not None:
            publications.append(await bot.publish_video(file.video))
        _line(f"playing {args.file.name} in {args.room}")
        closed: asyncio.Task[object] = asyncio.create_task(bot.closed())
        played: asyncio.Task[object] = asyncio.create_task(_all_finished(publications))
        await asyncio.wait({played, closed}, return_when=asyncio.FIRST_COMPLETED)
        played.cancel()
        closed.cancel()


async def _all_finished(publications: list[Publication]) -> None:
    for publication in publications:
        await publication.finished()


async def _listen(args: argparse.Namespace) -> None:
    bot = _bot(args, subscribe=True)
    received: Counter[str] = Counter()

    def count(packet: RawRtp) -> None:
        received[packet.track_id] += 1

    def show(event: wire.FindingEvent) -> None:
        caption = event.finding
        if isinstance(caption, Caption) and caption.final:
            name = bot.room.name_of(caption.participant_id) or "somebody who left"
            label = " [test quality]" if caption.quality == "test" else ""
            _line(f"{name}: {caption.text}  ({caption.latency_ms} ms{label})")

    bot.on_rtp(count)
    bot.on(wire.FindingEvent, show)
    async with bot:
        stats = asyncio.create_task(_print_stats(bot, received))
        try:
            async with asyncio.timeout(args.seconds):
                await bot.closed()
        except TimeoutError:
            _line(f"{sum(received.values())} packets of {len(received)} tracks received")
        finally:
            stats.cancel()


async def _print_stats(bot: MeetingBot, received: "Counter[str]") -> None:
    while True:
        await asyncio.sleep(STATS_EVERY_S)
        for track in bot.room.tracks.values():
            if track.participant_id != bot.participant_id:
                name = bot.room.name_of(track.participant_id) or track.participant_id
                _line(f"  {name}, {track.source}: {received[track.track_id]} packets")


def _line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
