"""`candor models`: what there is, what is here, and fetching weights."""

import argparse
import sys
from pathlib import Path

from models import catalog
from models.pull import DEFAULT_HUB, PullError, pull_from_hub, pull_from_mirror
from models.settings import ModelSettings
from models.store import CorruptModelError, Located, Missing, Store


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add `models` and its commands to a parser; returns the parser of `models`."""
    parser = subparsers.add_parser("models", help="list the models, pull their weights")
    commands = parser.add_subparsers(dest="models_command", required=True)
    commands.add_parser("list", help="every model, whether it is here, and the command that would bring it")
    pull = commands.add_parser("pull", help="fetch weights, pinned by commit, and write models.lock")
    pull.add_argument("name", nargs="+", help="as `candor models list` shows it")
    pull.add_argument(
        "--mirror", type=Path, help="a folder to copy from, laid out as hf/<owner>/<repository>/<commit>/"
    )
    pull.add_argument("--hub", default=DEFAULT_HUB, help=f"another hub with the same interface (default {DEFAULT_HUB})")
    return parser


def run(arguments: argparse.Namespace, settings: ModelSettings) -> int:
    """Do what was asked. Returns the exit status."""
    store = Store(settings.store_dir)
    if arguments.models_command == "list":
        _list(store)
        return 0
    try:
        for name in arguments.name:
            _pull(name, store, arguments.mirror, arguments.hub)
    except (PullError, CorruptModelError, OSError) as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    return 0


def _pull(name: str, store: Store, mirror: Path | None, hub: str) -> None:
    try:
        entry = catalog.load().get(name)
    except KeyError as error:
        raise PullError(str(error.args[0])) from error
    if isinstance(entry.source, catalog.PackageSource):
        sys.stdout.write(f"{name} comes with the package {entry.source.package}; there is nothing to pull\n")
        return
    sys.stdout.write(f"{name}: {entry.source.repository}, licence {entry.licence}\n")
    locked = pull_from_hub(entry, store, hub, _progress) if mirror is None else pull_from_mirror(entry, store, mirror)
    sys.stdout.write(f"{name}: {len(locked.files)} files of commit {locked.commit} in {store.root}\n")
    if isinstance(found := store.locate(entry), Missing):
        sys.stdout.write(f"{name}: {found.reason}: run `{found.command}`\n")


def _progress(name: str, done_bytes: int, total_bytes: int) -> None:
    share = f"{100 * done_bytes // total_bytes:3d} %" if total_bytes else f"{done_bytes} bytes"
    sys.stdout.write(f"\r  {name:<32} {share}" + ("\n" if done_bytes == total_bytes else ""))
    sys.stdout.flush()


def _list(store: Store) -> None:
    sys.stdout.write(f"{'model':<20} {'task':<16} {'licence':<14} {'languages':<10} {'quality':<9} here\n")
    for entry in catalog.load().model:
        found = store.locate(entry)
        here = f"yes, {found.version}" if isinstance(found, Located) else f"no: {found.reason}: {found.command}"
        languages = "many" if "*" in entry.languages else ", ".join(entry.languages)
        row = f"{entry.name:<20} {entry.task:<16} {entry.licence:<14} {languages:<10} {entry.quality:<9} {here}\n"
        sys.stdout.write(row)
