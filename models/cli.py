"""`candor models`: what there is, what is here; fetching, checking, removing and choosing weights."""

import argparse
import sys
from pathlib import Path

from models import catalog, environments, setup
from models.catalog import EnvironmentSource, ModelEntry, PulledSource
from models.choosing import PREFERABLE, check
from models.download import AbsentError, PullError
from models.origins import DEFAULT_GITHUB, DEFAULT_HUB, Internet, Mirror, Origin
from models.progress import Progress
from models.pull import pull
from models.runners import is_tunable
from models.service import cli as service
from models.settings import ModelSettings
from models.setup import SetupError
from models.store import Busy, CorruptModelError, Lock, LockedModel, Missing, Store
from models.training import cli as training
from models.tune import tune


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add `models` and its commands to a parser; returns the parser of `models`."""
    parser = subparsers.add_parser("models", help="list the models; pull, verify and remove their weights")
    commands = parser.add_subparsers(dest="models_command", required=True)
    commands.add_parser("list", help="every model, whether it is here, and the command that would bring it")
    fetch = commands.add_parser("pull", help="fetch weights, pinned by commit and sha256, and write models.lock")
    _add_names(fetch, "without a name: the defaults")
    fetch.add_argument(
        "--mirror",
        type=Path,
        help="a folder to copy from, laid out as hf|github/<owner>/<repository>/<commit>/; of the defaults, those it has",
    )
    fetch.add_argument("--offline", action="store_true", help="ask nobody: say whether it is all here and whole")
    fetch.add_argument("--keep", type=int, metavar="N", help="versions before it that stay (default: a setting, 1)")
    fetch.add_argument("--accept-licence", action="store_true", help="also if a licence forbids commercial use")
    fetch.add_argument(
        "--hub", default=DEFAULT_HUB, help=f"another hub with the same interface (default {DEFAULT_HUB})"
    )
    fetch.add_argument("--github", default=DEFAULT_GITHUB, help=f"another host of files (default {DEFAULT_GITHUB})")
    _add_names(commands.add_parser("verify", help="compare every file with models.lock"), "without a name: all here")
    measure = commands.add_parser("tune", help="measure in which precision a model answers fastest here, and keep it")
    _add_names(measure, "without a name: all here that have a choice")
    remove = commands.add_parser("remove", help="delete weights")
    remove.add_argument("name", nargs="+", help="as `candor models list` shows it; NAME@VERSION: one of those before")
    prefer = commands.add_parser("prefer", help="choose the model that meetings ask about its task")
    prefer.add_argument("name", help="as `candor models list` shows it")
    setup.register(commands)
    training.register(commands)
    service.register(commands)
    return parser


def _add_names(parser: argparse.ArgumentParser, none: str) -> None:
    parser.add_argument("name", nargs="*", help=f"as `candor models list` shows it; {none}")


def run(arguments: argparse.Namespace, settings: ModelSettings) -> int:
    """Do what was asked. Returns the exit status."""
    store = Store(settings.store_dir)
    try:
        match arguments.models_command:
            case "list":
                _list(store)
                return 0
            case "pull":
                return _pull_all(arguments, store, settings)
            case "verify":
                return _verify(arguments.name, store)
            case "tune":
                return _tune(arguments.name, store)
            case "prefer":
                return _prefer(arguments.name, store)
            case "setup":
                return setup.run(arguments, store, settings.store_budget_bytes)
            case "train" | "evaluate":
                return training.run(arguments, store, settings)
            case command if command in service.COMMANDS:
                return service.run(arguments, settings.service)
            case _:
                return _remove(arguments.name, store)
    except (PullError, SetupError, Busy, CorruptModelError, OSError) as error:
        sys.stderr.write(f"\n{error}\n")
        return 1


def _entry(name: str) -> ModelEntry:
    try:
        return catalog.load().get(name)
    except KeyError as error:
        raise PullError(str(error.args[0])) from error


def _found(name: str, store: Store) -> ModelEntry:
    """Of the catalog, or trained here."""
    return store.find(name) or _entry(name)


def _pull_all(arguments: argparse.Namespace, store: Store, settings: ModelSettings) -> int:
    """Named models must come; of the defaults, those come that the origin has, and the others are said."""
    if arguments.name:
        entries = [_entry(name) for name in arguments.name]
    else:
        entries = [entry for entry in catalog.load().model if entry.by_default]
    if arguments.offline:
        return _verify([entry.name for entry in entries], store)
    keep = settings.keep_versions if arguments.keep is None else max(0, arguments.keep)
    mirror = arguments.mirror
    origin: Origin = Mirror(mirror) if mirror else Internet(arguments.hub, arguments.github)
    for entry in entries:
        _check_licence(entry, arguments.accept_licence)
    here, missing = 0, 0
    for entry in entries:
        try:
            _pull(entry, store, origin, settings.store_budget_bytes, keep)
            here += 1
        except AbsentError as error:
            if arguments.name or not mirror:
                raise
            sys.stdout.write(f"{entry.name}: not pulled: {error}\n")
            missing += 1
    sys.stdout.write(f"{here} models in {store.root}" + (f", {missing} not in the mirror\n" if missing else "\n"))
    return 0 if here else 1


def _check_licence(entry: ModelEntry, accepted: bool) -> None:
    if not entry.commercial and not accepted:
        raise PullError(
            f"{entry.name}: its licence ({entry.licence}) restricts what you may do with it, or was not found to allow "
            "commercial use: read it, then pull again with --accept-licence"
        )


def _pull(entry: ModelEntry, store: Store, origin: Origin, budget_bytes: int, keep: int) -> None:
    if isinstance(entry.source, EnvironmentSource):
        raise PullError(f"{entry.name} is not pulled: {environments.command(entry.source)}")
    if not isinstance(entry.source, PulledSource):
        sys.stdout.write(f"{entry.name} needs nothing pulled: it comes with a package or from other models\n")
        return
    if _is_whole(entry, store):
        sys.stdout.write(f"{entry.name}: here and whole\n")
        return
    sys.stdout.write(f"{entry.name}: {entry.source.kind}/{entry.source.repository}, licence {entry.licence}\n")
    with Progress(sys.stdout) as progress:
        locked = pull(entry, store, origin, progress, budget_bytes, keep)
    sys.stdout.write(f"{entry.name}: {len(locked.files)} files of {locked.commit}\n")
    if isinstance(found := store.locate(entry), Missing):
        sys.stdout.write(f"{entry.name}: {found.reason}: run `{found.command}`\n")


def _is_whole(entry: ModelEntry, store: Store) -> bool:
    """Whether what the catalog asks for is here. A branch may have moved on: it is always asked for again."""
    locked = store.lock().models.get(entry.name)
    if locked is None or not _is_pinned(entry, locked):
        return False
    try:
        store.verify(entry)
    except (CorruptModelError, OSError):
        return False
    return True


def _is_pinned(entry: ModelEntry, locked: LockedModel) -> bool:
    source = entry.source
    wanted = source.sha256 if isinstance(source, catalog.UrlSource) else getattr(source, "revision", "")
    return locked.commit == wanted


def _verify(names: list[str], store: Store) -> int:
    """Exit status 1 if a model is missing or not what the lock says."""
    lock = store.lock()
    wrong = 0
    here = [*sorted(lock.models), *(entry.name for entry in environments.installed(store.root))]
    for name in names or here:
        try:
            entry = _found(name, store)
            if isinstance(entry.source, PulledSource) and name not in lock.models:
                raise PullError(f"{name}: not here: candor models pull {name}")
            store.verify(entry)
            for earlier in lock.earlier.get(name, []):
                store.verify(entry, earlier.version)
            sys.stdout.write(f"{name}: whole\n")
        except (PullError, CorruptModelError, OSError) as error:
            sys.stdout.write(f"{error}\n")
            wrong += 1
    if not names and not here:
        sys.stdout.write(f"nothing has been pulled into {store.root}\n")
    return 1 if wrong else 0


def _prefer(name: str, store: Store) -> int:
    entry = _found(name, store)
    if entry.task not in PREFERABLE or not entry.runner:
        raise PullError(f"{name} is not a model that a meeting chooses by preference")
    found = check(entry, store)
    if isinstance(found, Missing):
        raise PullError(f"{name}: {found.reason}" + (f": {found.command}" if found.command else ""))
    with store.alone():
        store.prefer(entry)
    sys.stdout.write(f"{found.version}: meetings ask it about {entry.task}, from the next start on\n")
    return 0


def _tune(names: list[str], store: Store) -> int:
    """Exit status 1 if a model cannot be measured."""
    wrong = 0
    for name in names or sorted(store.lock().models):
        entry = _found(name, store)
        located = store.locate(entry)
        if not is_tunable(entry):
            if names:
                raise PullError(f"{name} computes in one precision only")
            continue
        try:
            if isinstance(located, Missing):
                raise ValueError(f"{located.reason}: {located.command}")
            tune(entry, located.version, store.root, lambda line: sys.stdout.write(f"{line}\n"))
        except ValueError as error:
            sys.stdout.write(f"{name}: {error}\n")
            wrong += 1
    return 1 if wrong else 0


def _remove(names: list[str], store: Store) -> int:
    with store.alone():
        for name in names:
            before = store.size_bytes()
            model, _, version = name.partition("@")
            if version:
                _remove_version(model, version, store)
            elif name in store.lock().models:
                store.remove(name)
            elif not _remove_environment(name, store):
                raise PullError(f"{name} is not in {store.root}")
            sys.stdout.write(f"{name}: removed, {(before - store.size_bytes()) / 1e6:.1f} MB freed\n")
    return 0


def _remove_version(name: str, version: str, store: Store) -> None:
    try:
        store.remove_version(name, version)
    except KeyError as error:
        raise PullError(f"{name}@{version} is none of the versions before, which `candor models list` shows") from error
    except ValueError as error:
        raise PullError(str(error)) from error


def _remove_environment(name: str, store: Store) -> bool:
    """Whether there was one."""
    try:
        return environments.remove(store.root, environments.get(name)[1])
    except KeyError:
        return False


def _list(store: Store) -> None:
    rows = [("model", "task", "licence", "languages", "quality", "here")]
    lock = store.lock()
    trained = [model.entry(name) for name, model in lock.trained.items()]
    for entry in [*catalog.load().model, *trained]:
        languages = "any" if "*" in entry.languages else ", ".join(entry.languages)
        rows.append((entry.name, entry.task, entry.licence, languages, entry.quality, _here(entry, store, lock)))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        sys.stdout.write(
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]) + "\n"
        )


def _here(entry: ModelEntry, store: Store, lock: Lock) -> str:
    found = store.locate(entry)
    if isinstance(found, Missing):
        return f"no: {found.reason}" + (f": {found.command}" if found.command else "")
    notes = [f"yes, {found.version}"]
    if earlier := lock.earlier.get(entry.name):
        notes.append("before: " + ", ".join(locked.version for locked in earlier))
    if not entry.runner:
        notes.append("nothing in Candor runs it yet")
    if lock.preferred.get(entry.task) == entry.name:
        notes.append("preferred")
    if entry.name in lock.trained and lock.trained[entry.name].fixture:
        notes.append(f"fixture: {lock.trained[entry.name].fixture}")
    return "; ".join(notes)
