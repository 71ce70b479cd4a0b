"""`candor drain`: send the rooms of this computer's node to the other machines of its cluster, before it is stopped."""

import tempfile
from pathlib import Path
from typing import Any

from candor.run_dir import PREFIX
from candor.settings import ConfigurationError
from sfu.channel import ChannelError, connect
from signaling.metrics import SOCKET_NAME

TIMEOUT_S = 60.0


async def drain() -> int:
    """Ask every node of this user on this computer; how many rooms are left here. Raises ConfigurationError if none answers."""
    answers = [answer for path in _sockets() if (answer := await _ask(path)) is not None]
    if not answers:
        raise ConfigurationError("there is no server of yours on this computer that belongs to a cluster")
    return sum(int(answer["rooms"]) for answer in answers)


def _sockets() -> list[Path]:
    return sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{SOCKET_NAME}"))


async def _ask(path: Path) -> dict[str, Any] | None:
    """None: nobody is there, or they belong to no cluster."""
    try:
        channel = await connect(path)
    except OSError:
        return None
    channel.start()
    try:
        answer: dict[str, Any] = await channel.request("drain", timeout_s=TIMEOUT_S)
    except ChannelError:
        return None
    finally:
        await channel.close()
    return answer
