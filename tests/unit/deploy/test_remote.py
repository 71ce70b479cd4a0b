"""deploy/remote.sh and deploy/release.sh, as they are, against an ssh that goes nowhere and a docker without containers."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from candor import cli
from candor.doctor import report
from candor.settings import Settings
from tests.unit.deploy.files import DEPLOY, ROOT
from tests.until import until

FAKE_DOCKER = ROOT / "tests/fakes/docker.sh"
SSH = """#!/bin/bash
# Another machine's shell, in a session of its own: it outlives us, and then its input ends. We end when it does.
printf '%s\\n' "$*" >>"$FAKE_DOCKER/ssh"
while [ "$1" != -- ]; do shift; done
shift 2
cd "$REMOTE_HOME"
setsid sh -c "$*" < <(cat) > >(cat)
"""
CANDOR = """#!/bin/sh
# The doctor that looks from here.
printf '%s\\n' "$*" "$(cat)" >"$FAKE_DOCKER/looked"
while [ -e "$FAKE_DOCKER/wait" ]; do sleep .01; done
test ! -e "$FAKE_DOCKER/unreachable"
"""


class Site:
    """A checkout here, and a machine there."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.home, self.state = (folder / name for name in ("checkout", "home", "state"))
        self.there = self.home / "candor"
        self.environment = {
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "CANDOR": str(folder / "bin/candor"),
            "HOME": str(folder),
            "FAKE_DOCKER": str(self.state),
            "REMOTE_HOME": str(self.home),
            "HEALTH_S": "0",
        }

    def set_up(self) -> None:
        tools = self.home.parent / "bin"
        for path in (self.checkout / "deploy", self.there, self.state / "images", tools):
            path.mkdir(parents=True)
        for name, text in (("ssh", SSH), ("candor", CANDOR)):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        (tools / "docker").symlink_to(FAKE_DOCKER)
        for name in ("remote.sh", "release.sh"):
            shutil.copy(DEPLOY / name, self.checkout / "deploy")
        shutil.copy(ROOT / "docker-compose.yml", self.checkout)
        (self.there / ".env").write_text("PUBLIC_URL=https://meet.example.org\n")
        self._git("init", "--quiet")

    def _git(self, *arguments: str) -> None:
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=self.checkout, check=True, capture_output=True)

    def commit(self, version: str) -> None:
        (self.checkout / "version").write_text(f"{version}\n")
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", version)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """In a session of its own, with what it says in a file."""
        with (self.state / "said").open("w") as said:
            return subprocess.Popen(
                ["bash", str(self.checkout / "deploy/remote.sh"), *(arguments or ("operator@machine.example.org",))],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                text=True,
                start_new_session=True,
            )

    def run(self, *arguments: str) -> int:
        return self.start(*arguments).wait(60)

    def deploy(self, version: str, *options: str) -> int:
        self.commit(version)
        return self.run(*options, "operator@machine.example.org")

    @property
    def said(self) -> str:
        return (self.state / "said").read_text()

    @property
    def runs(self) -> str:
        path = self.state / "runs"
        return path.read_text().strip() if path.exists() else ""

    @property
    def calls(self) -> list[str]:
        return (self.state / "calls").read_text().splitlines()

    @property
    def images(self) -> dict[str, str]:
        return {path.name: path.read_text().strip() for path in (self.state / "images").iterdir()}

    @property
    def releases(self) -> list[str]:
        """What is in them, the oldest first."""
        return [(path / "version").read_text().strip() for path in sorted((self.there / "releases").iterdir())]

    @property
    def current(self) -> str:
        return (self.there / "current/version").read_text().strip()

    async def reached(self, name: str) -> None:
        """Until the fakes have got so far."""
        await until(lambda: "" if (self.state / name).exists() else f"nobody came to {name!r}: {self.said}")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path / "site")
    site.set_up()
    return site


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a site with a first release that runs."""
    folder = tmp_path_factory.mktemp("template") / "site"
    site = Site(folder)
    site.set_up()
    assert site.deploy("one") == 0, site.said
    return folder


@pytest.fixture
def running(template: Path, tmp_path: Path) -> Site:
    shutil.copytree(template, tmp_path / "site", symlinks=True)
    return Site(tmp_path / "site")


def as_before(site: Site) -> bool:
    """The first release is what runs, is called so, and is all that is left."""
    return (site.runs, site.current, site.releases) == ("one", "one", ["one"]) and set(site.images.values()) == {"one"}


def test_a_release_is_shipped_started_and_looked_at(site: Site) -> None:
    assert site.deploy("one") == 0, site.said
    assert as_before(site)
    release = (site.there / "current").resolve()
    assert (release / ".env").resolve() == site.there / ".env"
    assert (release / "certificates").readlink() == Path("../../certificates")
    assert "compose --project-name candor exec -T candor candor doctor" in site.calls
    assert not (release / "said").exists()
    arguments, token = (site.state / "looked").read_text().splitlines()
    assert arguments == "doctor --from-outside https://meet.example.org --room doctor --token -"
    assert token == "token of one"
    ways = (site.state / "ssh").read_text()
    assert token not in ways
    for line in ways.splitlines():
        assert "BatchMode=yes" in line
        assert "StrictHostKeyChecking=yes" in line


def test_the_next_one_takes_its_place_and_three_are_kept(running: Site) -> None:
    for version in ("two", "three", "four"):
        assert running.deploy(version) == 0, running.said
    assert (running.runs, running.current) == ("four", "four")
    assert running.releases == ["two", "three", "four"]
    assert set(running.images.values()) == {"two", "three", "four"}


@pytest.mark.parametrize("version", ["two broken", "two stopped", "two unhealthy", "two unready", "two sick"])
def test_what_is_not_well_is_undone(version: str, running: Site) -> None:
    assert running.deploy(version) == 1
    assert as_before(running), running.said
    log = (running.there / "deploy.log").read_text()
    if version == "two broken":
        assert "what runs was not touched" in running.said
        assert running.calls.count("compose --project-name candor up --detach --remove-orphans") == 1
    else:
        assert f"the last words of {version}" in log
    assert running.deploy("three") == 0, running.said


def test_what_is_not_well_from_here_is_undone(running: Site) -> None:
    (running.state / "unreachable").touch()
    assert running.deploy("two") == 1
    assert as_before(running), running.said
    assert "not well from outside" in running.said


def test_the_doctor_may_be_overruled_but_not_health(running: Site) -> None:
    assert running.deploy("two sick", "--tolerate-doctor") == 0, running.said
    assert running.runs == running.current == "two sick"
    assert running.deploy("three unhealthy", "--tolerate-doctor") == 1
    assert running.runs == running.current == "two sick"


def test_the_first_one_that_is_not_well_leaves_nothing(site: Site) -> None:
    assert site.deploy("one unhealthy") == 1
    assert (site.runs, site.releases) == ("", [])
    assert not (site.there / "current").exists()
    assert "nothing runs" in site.said


def test_neither_is_well(running: Site) -> None:
    """Somebody broke the machine itself: the images of the old release, too."""
    for path in (running.state / "images").iterdir():
        path.write_text("one unhealthy\n")
    assert running.deploy("two unhealthy") == 3
    assert "IS NOT WELL EITHER" in running.said
    assert running.releases == ["one", "two unhealthy"]


def test_the_way_back_a_day_later(running: Site) -> None:
    assert running.deploy("two") == 0
    assert running.run("--back", "operator@machine.example.org") == 0, running.said
    assert (running.runs, running.current, running.releases) == ("one", "one", ["one", "two"])
    assert running.run("--back", "operator@machine.example.org") == 2
    assert "no release before" in running.said
    assert running.runs == "one"


async def test_interrupted_while_it_is_built_nothing_is_touched(running: Site) -> None:
    running.commit("two slow")
    deploying = running.start()
    await running.reached("building")
    deploying.send_signal(signal.SIGTERM)
    await until(lambda: "" if "Interrupted" in running.said else f"it did not hear it: {running.said}")
    (running.state / "continue").touch()
    assert deploying.wait(30) == 1
    assert as_before(running), running.said
    assert running.calls.count("compose --project-name candor up --detach --remove-orphans") == 1


async def test_interrupted_while_it_is_looked_at_it_is_undone(running: Site) -> None:
    running.commit("two")
    (running.state / "looked").unlink()
    (running.state / "wait").touch()
    deploying = running.start()
    await running.reached("looked")
    deploying.send_signal(signal.SIGTERM)
    (running.state / "wait").unlink()
    assert deploying.wait(30) == 1
    assert as_before(running), running.said


@pytest.mark.parametrize("moment", ["building", "looked"])
async def test_the_machine_goes_back_by_itself_when_the_connection_is_gone(moment: str, running: Site) -> None:
    running.commit("two slow" if moment == "building" else "two")
    (running.state / "looked").unlink()
    (running.state / "wait").touch()
    deploying = running.start()
    await running.reached(moment)
    os.killpg(deploying.pid, signal.SIGKILL)
    deploying.wait(30)
    (running.state / "continue").touch()
    await until(lambda: "" if as_before(running) else f"{running.runs}, {running.releases}: {running.said}")


def test_what_a_power_failure_left_is_no_release(running: Site) -> None:
    """The machine died after `up`: it runs what nobody found well."""
    left = running.there / "releases/20000101T000000Z-dead"
    shutil.copytree(running.there / "releases" / (running.there / "current").readlink().name, left, symlinks=True)
    (left / ".passed").unlink()
    assert running.run("--back", "operator@machine.example.org") == 2
    assert running.deploy("two") == 0, running.said
    assert running.releases == ["one", "two"]


def test_refused_before_anything_is_done(site: Site) -> None:
    (site.there / ".env").rename(site.home / "env")
    assert site.deploy("one") == 2
    assert "candor.init" in site.said
    assert site.releases == []
    (site.home / "env").rename(site.there / ".env")
    (site.state / "runs").write_text("made by hand\n")
    assert site.run() == 2
    assert "docker compose --project-name candor down" in site.said
    assert (site.runs, site.releases) == ("made by hand", [])


def test_two_at_a_time_are_refused(running: Site) -> None:
    held = subprocess.Popen(
        ["flock", str(running.there / ".lock"), "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert held.stdin is not None
    assert held.stdout is not None
    held.stdin.write("held\n")
    held.stdin.flush()
    assert held.stdout.readline() == "held\n"
    assert running.deploy("two") == 2
    assert "Somebody else" in running.said
    held.communicate()
    assert running.runs == "one"
    assert running.deploy("three") == 0, running.said
    assert running.releases == ["one", "three"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-oProxyCommand=touch stolen"],
        ["host", "candor; touch stolen"],
        ["$(touch stolen)"],
        ["host", "-rf"],
        ["a", "b", "c"],
    ],
)
def test_no_word_of_the_command_line_becomes_a_command(arguments: list[str], site: Site) -> None:
    assert site.run(*arguments) == 2
    assert not (site.state / "ssh").exists()
    assert not list(site.home.parent.rglob("stolen"))


def test_shellcheck_has_nothing_to_say() -> None:
    tool = shutil.which("shellcheck")
    if tool is None:
        pytest.skip("shellcheck is not installed (Debian: apt-get install shellcheck)")
    scripts = sorted(map(str, DEPLOY.rglob("*.sh")))
    assert len(scripts) >= 5
    done = subprocess.run([tool, *scripts], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_the_doctor_takes_its_token_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []

    async def examine(settings: Settings, *arguments: object) -> int:
        told.extend(arguments)
        return 0

    monkeypatch.setattr(report, "examine", examine)
    argv = ["candor", "doctor", "--from-outside", "https://meet.example.org", "--room", "weekly", "--token", "-"]
    monkeypatch.setattr(sys, "argv", argv)
    reading, writing = os.pipe()
    os.write(writing, b"secret\n")
    os.close(writing)
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert cli.main() == 0
    assert told == ["https://meet.example.org", "secret", "weekly"]
