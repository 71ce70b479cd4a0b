"""A model in one precision, alone in a process: `models.tune` asks it over stdin and stdout, one JSON map per line."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from models.catalog import ModelEntry
from models.errors import InferenceError
from models.questions import Answer, Picture, Scores, Sound, Summary
from models.runners import create_runner
from models.settings import ModelSettings
from models.shelf import resident_bytes
from models.speech import Transcript
from models.store import Store


def comparable(answer: Answer) -> str | dict[str, Any]:
    """A text, or numbers and whether they are probabilities."""
    match answer:
        case Transcript(words):
            return "".join(word.text for word in words)
        case Summary(text):
            return text
        case Scores(_, values):
            return {"numbers": list(values), "probabilities": True}
        case Sound(pcm):
            return {"numbers": pcm.tolist(), "probabilities": False}
        case Picture(rgb):
            return {"numbers": rgb.reshape(-1).tolist(), "probabilities": False}
        case other:
            raise TypeError(f"nothing to compare in {type(other).__name__}")


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _asked_for(asked: dict[str, Any]) -> Any:
    """The runner. Raises UnavailableError."""
    store = Store(Path(asked["root"]), allow_random=asked["allow_random"])
    precision = asked["precision"]
    entry = ModelEntry.model_validate(asked["entry"])
    runner, _ = create_runner(entry, store, ModelSettings(), {"cpu": precision, "cuda": precision})
    return runner


async def _serve(asked: dict[str, Any]) -> None:
    runner, before = _asked_for(asked), resident_bytes()
    await runner.start()
    _say({"device": runner.placement.device, "memory_bytes": resident_bytes() - before})
    example = runner.example()
    while await asyncio.to_thread(sys.stdin.readline):
        began = time.perf_counter()
        [answer] = await runner.run([example])
        _say({"seconds": time.perf_counter() - began, "answer": comparable(answer)})


def main() -> None:
    """Load, then answer as often as asked; say why not if it cannot."""
    try:
        asyncio.run(_serve(json.loads(sys.argv[1])))
    except InferenceError as error:
        _say({"refused": error.message})
    except Exception as error:  # torch raises anything, and this process is here to find out
        _say({"refused": f"{type(error).__name__}: {error}".splitlines()[0][:200]})


if __name__ == "__main__":
    main()
