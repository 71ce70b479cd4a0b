"""`candor models train` and `candor models evaluate`."""

import argparse
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from models.catalog import Task
from models.errors import InferenceError
from models.settings import ModelSettings
from models.store import Store
from models.trained import BASES
from models.training.evaluate import Report, evaluate
from models.training.media import MediaError
from models.training.report import write
from models.training.train import Order, TrainingError, train

TASKS: dict[str, tuple[Task, str]] = {
    "voice-authenticity": ("voice_authenticity", "aasist"),
    "face-authenticity": ("face_authenticity", "meso-inception-4"),
}
"""Each with what training begins from unless told otherwise."""
LAYOUT = "genuine: a folder for each person; synthetic: a folder for each generator, in it one for each person imitated, if known"


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add both to the commands of `candor models`."""
    training = commands.add_parser("train", help="train a head that tells genuine from synthetic media", epilog=LAYOUT)
    training.add_argument("task", choices=TASKS)
    _add_media(training)
    training.add_argument("--base", choices=BASES, help="what it begins from (default: aasist, meso-inception-4)")
    training.add_argument("--name", type=_name, help="what it will be called (default: the task and the day)")
    training.add_argument("--epochs", type=_positive, default=10, help="at most so many (default %(default)s)")
    training.add_argument("--minutes", type=_positive, default=120, help="no longer than this (default %(default)s)")
    training.add_argument(
        "--seed", type=_natural, default=1, help="who is held out, and the order (default %(default)s)"
    )
    evaluation = commands.add_parser("evaluate", help="find out how well a model of authenticity does", epilog=LAYOUT)
    evaluation.add_argument("name", help="as `candor models list` shows it")
    _add_media(evaluation)
    evaluation.add_argument("--report", type=Path, help="a folder for report.json, report.md and det.svg")


def _add_media(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--genuine", type=Path, required=True, metavar="DIR", help="DIR/<person>/...")
    parser.add_argument("--synthetic", type=Path, required=True, metavar="DIR", help="DIR/<generator>/<person>/...")


def _name(text: str) -> str:
    """It is also a folder in the store."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,60}", text):
        raise argparse.ArgumentTypeError("small letters, digits and hyphens, at most 61")
    return text


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("at least 0")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def run(arguments: argparse.Namespace, store: Store, settings: ModelSettings) -> int:
    """Do what was asked. Returns the exit status. Raises Busy, CorruptModelError, OSError."""
    try:
        if arguments.models_command == "train":
            _train(arguments, store, settings)
        else:
            _evaluate(arguments, store, settings)
    except InferenceError as error:
        sys.stderr.write(f"{error.message}" + (f": run `{error.command}`" if error.command else "") + "\n")
        return 1
    except (TrainingError, MediaError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _train(arguments: argparse.Namespace, store: Store, settings: ModelSettings) -> None:
    task, usual = TASKS[arguments.task]
    base = arguments.base or usual
    if BASES[base].task != task:
        raise TrainingError(
            f"{base} is no base for {arguments.task}: " + ", ".join(n for n in BASES if BASES[n].task == task)
        )
    name = arguments.name or f"{arguments.task}-{datetime.now(UTC).date()}"
    order = Order(
        base, name, arguments.genuine, arguments.synthetic, arguments.epochs, arguments.minutes, arguments.seed
    )
    trained = train(order, store, settings, _tell)
    _tell(f"{name} is in {store.root}, as a fixture: {trained.fixture}")
    _tell(f"next, with other people and generators: candor models evaluate {name} --genuine DIR --synthetic DIR")


def _evaluate(arguments: argparse.Namespace, store: Store, settings: ModelSettings) -> None:
    report = evaluate(arguments.name, arguments.genuine, arguments.synthetic, store, settings, _tell)
    for row in report.rows:
        _tell(f"{row.condition:>14}  EER {row.eer:6.1%}  AUC {row.auc:.3f}")
    _tell(_conclusion(arguments.name, report))
    if arguments.report:
        write(report, arguments.report)
        _tell(f"report: {arguments.report / 'report.md'}")


def _conclusion(name: str, report: Report) -> str:
    if report.fixture:
        return f"{name} stays a fixture, which no meeting asks: {report.fixture}"
    if report.base:
        return (
            f"{name} may be asked in meetings, once it is chosen (candor models prefer {name}) and Candor started anew"
        )
    return f"{name} is of the catalog; its calibration stays as it is"


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
