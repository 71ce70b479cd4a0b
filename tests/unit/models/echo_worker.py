"""A pool process that answers with its process id, and dies, babbles, sleeps or waits for a file when told to."""

import os
import signal
import sys
from pathlib import Path

from models import wire


def main() -> None:
    while (message := wire.read_blocking(sys.stdin.buffer)) is not None:
        if message.get("text") == "die":
            os._exit(1)
        if message.get("text") == "sleep":
            signal.pause()
        if (text := str(message.get("text", ""))).startswith("/"):
            while not Path(text).exists():
                os.sched_yield()
        if message.get("text") == "babble":
            sys.stdout.buffer.write(b"\xff" * 64)
        else:
            sys.stdout.buffer.write(wire.pack({"pid": os.getpid(), "text": message.get("text", "")}))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
