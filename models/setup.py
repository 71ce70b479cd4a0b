"""`candor models setup`: a package that cannot live beside ours, in an environment of its own, checked by using it once.

pip fetches it, from wherever pip is configured to (or from a folder), and takes only files whose hashes are in the list that
comes with this release. Nothing is here until all of it is, and until it has found a face.
"""

import argparse
import asyncio
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess  # nosec B404  # this Python and pip with lists of arguments, never a shell
import sys
from pathlib import Path

from models import environments
from models.catalog import EnvironmentSource, ModelEntry
from models.drawn_face import EYES, drawn_face
from models.environments import InstalledEnvironment
from models.errors import InferenceError
from models.questions import Picture
from models.runners.landmarks import LandmarksRunner, command
from models.store import CorruptModelError, Store, sha256_of

IRISES = (468, 473)
"""Landmarks: the middle of the person's right and left iris."""
NEAR_PX = 6.0
"""So far from where it was drawn an iris may be found."""


_ELSEWHERE = frozenset({"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_DRY_RUN"})


class SetupError(Exception):
    """The environment could not be made. The message says why and what would help."""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `setup` to the commands of `candor models`."""
    parser = commands.add_parser("setup", help="install a package that needs an environment of its own, and check it")
    parser.add_argument(
        "name", choices=environments.names(), help="landmarks: MediaPipe's face mesh, for eye direction"
    )
    parser.add_argument(
        "--find-links", type=Path, metavar="DIR", help="take the wheels from a folder, and ask no package index"
    )
    parser.add_argument("--offline", action="store_true", help="ask nobody: say whether it is all here and whole")
    parser.add_argument(
        "--python",
        type=Path,
        default=Path(sys.executable),
        help="another interpreter (default: the one that runs this)",
    )


def run(arguments: argparse.Namespace, store: Store, budget_bytes: int) -> int:
    """Do what was asked. Returns the exit status. Raises SetupError, Busy, OSError."""
    entry, source = environments.get(arguments.name)
    wrong = _what_is_wrong(entry, store)
    if not wrong:
        sys.stdout.write(f"{source.name}: here and whole\n")
        return 0
    if arguments.offline:
        sys.stdout.write(f"{wrong}\n")
        return 1
    sys.stdout.write(
        f"{source.name}: {source.package}, licence {entry.licence}, about {entry.size_bytes / 1e6:.0f} MB\n"
    )
    sys.stdout.flush()  # pip writes to the same place
    with store.alone():
        environments.remove(store.root, source)
        _check_room(entry, store, budget_bytes)
        try:
            installed = _install(source, store.root, arguments.python, arguments.find_links)
        except BaseException:
            environments.remove(store.root, source)
            raise
        environments.write(store.root, source, installed)
    versions = ", ".join(f"{name} {version}" for name, version in installed.packages.items())
    sys.stdout.write(f"{source.name}: {versions}; {len(installed.files)} files in {store.root}\n")
    return 0


def _what_is_wrong(entry: ModelEntry, store: Store) -> str:
    try:
        store.verify(entry)
    except CorruptModelError as error:
        return str(error)
    return ""


def _check_room(entry: ModelEntry, store: Store, budget_bytes: int) -> None:
    needed, used, free = entry.size_bytes, store.size_bytes(), shutil.disk_usage(store.root).free
    if used + needed > budget_bytes:
        raise SetupError(
            f"{entry.name} needs {needed / 1e6:.0f} MB and the store has {used / 1e6:.0f} of at most "
            f"{budget_bytes / 1e6:.0f} MB (setting models.max_store_gb): `candor models remove NAME` makes room"
        )
    if needed > free:
        raise SetupError(f"{entry.name} needs {needed / 1e6:.0f} MB, the disk has {free / 1e6:.0f} MB left")


def _install(source: EnvironmentSource, root: Path, interpreter: Path, wheels: Path | None) -> InstalledEnvironment:
    version = _python_version(source, interpreter)
    folder = environments.folder(root, source)
    _call([str(interpreter), "-I", "-m", "venv", "--without-pip", str(folder)], "no environment could be made")
    _pip(source, folder, wheels)
    asyncio.run(_look_once(folder))
    return InstalledEnvironment(
        package=source.package,
        python=version,
        requirements_sha256=environments.sha256_of_requirements(source),
        packages=_versions(folder),
        files={str(path.relative_to(folder)): sha256_of(path) for path in _files(folder)},
        links=environments.links(folder),
    )


def _python_version(source: EnvironmentSource, interpreter: Path) -> str:
    told = _call([str(interpreter), "-I", "-c", "import platform; print(platform.python_version())"], "", quiet=True)
    newest = tuple(map(int, source.newest_python.split(".")))
    if tuple(map(int, told.split(".")[:2])) > newest:
        raise SetupError(
            f"{source.package} was built for Python up to {source.newest_python}, and this is {told}: "
            f"name an older interpreter, `{environments.command(source)} --python PATH`"
        )
    return told


def _pip(source: EnvironmentSource, folder: Path, wheels: Path | None) -> None:
    if importlib.util.find_spec("pip") is None:
        raise SetupError(f"this needs pip: `{sys.executable} -m ensurepip` brings it")
    options = ["--no-user", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-compile", "--no-input"]
    where = [] if wheels is None else ["--no-index", "--find-links", str(wheels)]
    listed = ["--disable-pip-version-check", "--requirement", str(environments.requirements(source))]
    pip = [sys.executable, "-P", "-m", "pip", "--python", str(environments.python(folder)), "install"]
    here = f"{platform.system()} on {platform.machine()}"
    failure = f"pip could not install {source.package} (it says why above; this is {here})"
    _call([*pip, *options, *where, *listed], failure, environment=_for_pip(wheels))


def _for_pip(wheels: Path | None) -> dict[str, str]:
    """Its variables, but those that would make it install elsewhere, or nothing; with a folder of wheels none that are pip's."""
    if wheels is not None:
        return {name: value for name, value in os.environ.items() if not name.startswith("PIP_")} | {
            "PIP_CONFIG_FILE": os.devnull
        }
    return {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}


def _call(arguments: list[str], failure: str, *, quiet: bool = False, environment: dict[str, str] | None = None) -> str:
    """What a command writes, if `quiet`; else it writes where we do. Raises SetupError."""
    try:
        done = subprocess.run(  # nosec B603  # see above
            arguments, check=True, text=True, stdout=subprocess.PIPE if quiet else None, env=environment
        )
    except (subprocess.CalledProcessError, OSError) as error:
        raise SetupError(failure or f"{arguments[0]} is no Python that runs here") from error
    return (done.stdout or "").strip()


async def _look_once(folder: Path) -> None:
    """Have it find the irises of a drawn face. Raises SetupError if it does not."""
    runner = LandmarksRunner(command(folder))
    try:
        await runner.start()
        [landmarks] = await runner.run([Picture(drawn_face())])
    except InferenceError as error:
        raise SetupError(f"it was installed and does not run: {error.message}") from error
    finally:
        await runner.close()
    if not landmarks.points:
        raise SetupError("it was installed and runs, but does not find a face that it should find")
    found = [landmarks.points[iris] for iris in IRISES]
    far = max(abs(x - at[0]) + abs(y - at[1]) for (x, y, _), at in zip(found, EYES, strict=True))
    if far > NEAR_PX:
        raise SetupError(
            f"it was installed and runs, but finds the eyes of a drawn face {far:.0f} px from where they are"
        )
    sys.stdout.write(f"checked: it found the eyes of a drawn face, to {far:.1f} px\n")


def _versions(folder: Path) -> dict[str, str]:
    [packages] = folder.glob("lib/python3*/site-packages")
    found = importlib.metadata.distributions(path=[str(packages)])
    return {found.metadata["Name"]: found.version for found in sorted(found, key=lambda one: one.metadata["Name"])}


def _files(folder: Path) -> list[Path]:
    """All that was installed but links."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
