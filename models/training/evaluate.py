"""`candor models evaluate`: how well a model tells genuine from synthetic media, and what the scores of a head trained here mean.

Every window is judged as it is and after the codec at several bitrates. Figures of a head that was trained here are of people and
generators that its training had not met; half of these set the calibration, the other half try it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np

from models.calibration import Calibration, genuine_score
from models.choosing import CALIBRATED
from models.errors import FailedError
from models.questions import Scores
from models.settings import ModelSettings
from models.store import Store, sha256_of
from models.trained import Counts, Evaluation, TrainedModel
from models.training import media, metrics
from models.training.judge import Judge
from models.training.media import Collection, MediaError, Medium, Recording, Tell, Window
from models.training.metrics import Errors, Numbers, Reliability
from models.training.train import SEEN_NAME, Seen, TrainingError, medium_of

MOST_WINDOWS = 300
"""Of each kind. AASIST needs 0.5 s for each of them and each row of the codec: 25 minutes on one core."""
LEAST_DOUBT = 0.05
"""The error rate of the best open detectors outside their own test sets: a good evaluation is no reason to be surer than that."""


@dataclass(frozen=True, slots=True)
class Row:
    """A condition: as it is, or after the codec."""

    condition: str
    eer: float
    auc: float
    errors: Errors


@dataclass(frozen=True, slots=True)
class Group:
    """A person whose media is genuine, or a generator."""

    name: str
    genuine: bool
    seen: bool
    windows: int
    refused: int
    """Files without a window."""
    score: float
    """Mean."""
    wrong: float
    """The share of windows on the wrong side of the threshold at which both kinds of errors are the same."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found."""

    model: str
    base: str
    """Of a head that was trained here."""
    day: date
    used: Counts
    """What the figures rest on."""
    unseen: bool
    """Whether the model's training had met none of that; of a model of the catalog nobody here knows."""
    meeting: str
    """The condition that counts."""
    rows: list[Row]
    groups: list[Group]
    refused: float
    """The share of files that were too short, or showed no face."""
    calibration: Calibration | None
    reliability: Reliability | None
    own_media: bool
    """Whether the calibration was tried on the media that it was set by."""
    fixture: str
    """Why a meeting does not ask it; empty if it may."""


Judged = list[tuple[Window, float]]


def evaluate(name: str, genuine: Path, synthetic: Path, store: Store, settings: ModelSettings, tell: Tell) -> Report:
    """Evaluate, and write what was found of a head that was trained here into the store.

    Raises TrainingError, MediaError, InferenceError, Busy, CorruptModelError, OSError.
    """
    entry = store.find(name)
    if entry is None or entry.task not in CALIBRATED or not entry.runner:
        raise TrainingError(f"{name} is not a model of authenticity that can be evaluated")
    try:
        genuine_score(Scores(tuple(entry.labels), (0.0,) * len(entry.labels)))
    except ValueError as error:
        raise TrainingError(f"{name}: {error}") from error
    trained = store.lock().trained.get(name)
    with ExitStack() as stack:
        judge = stack.enter_context(Judge(entry, store, settings))
        medium = medium_of(entry.task, store, settings, stack)
        recordings = media.find(genuine, synthetic, medium.suffixes)
        seen = seen_groups(recordings, _fingerprints(name, store) if trained else set())
        found = media.collect(recordings, medium, MOST_WINDOWS, tell)
        judged = {
            condition: _scores(condition, windows, judge, tell) for condition, windows in _conditions(found, medium)
        }
    report = _report(judge.version, medium, judged, found, seen, trained)
    return _recorded(name, report, store) if trained else report


def _fingerprints(name: str, store: Store) -> set[str]:
    """What the training of a head looked at. Raises TrainingError if that is no longer what was written."""
    locked = store.lock().models[name]
    path = store.root / locked.folder / SEEN_NAME
    if sha256_of(path) != locked.files[SEEN_NAME]:
        raise TrainingError(f"{SEEN_NAME} of {name} is not what the lock says: remove {name} and train it again")
    return set(Seen.model_validate_json(path.read_text()).fingerprints)


def seen_groups(recordings: Sequence[Recording], fingerprints: set[str]) -> set[tuple[bool, str]]:
    """People and generators that training had met: by the name of their folder, or by the contents of any of their files."""
    members: dict[tuple[bool, str], list[Recording]] = defaultdict(list)
    for recording in recordings:
        members[recording.genuine, recording.group].append(recording)
    return {key for key, group in members.items() if media.fingerprints(group) & fingerprints}


def _conditions(found: Collection, medium: Medium) -> Iterator[tuple[str, list[Window]]]:
    """Each is made when its turn comes: all at once would be much memory."""
    yield "as it is", found.windows
    for kbps in medium.rows_kbps:
        coded = [Window(window.recording, medium.coded(window.question, kbps)) for window in found.windows]
        yield condition_of(medium, kbps), coded


def condition_of(medium: Medium, kbps: int) -> str:
    """What a row is called."""
    return f"{medium.codec} {kbps} kb/s"


def _scores(condition: str, windows: Sequence[Window], judge: Judge, tell: Tell) -> Judged:
    answers = judge.ask([window.question for window in windows])
    tell(f"{condition}: {len(windows)} windows judged")
    return [(window, _score(answer)) for window, answer in zip(windows, answers, strict=True)]


def _score(answer: object) -> float:
    if not isinstance(answer, Scores):
        raise FailedError("the model gives no scores")
    return genuine_score(answer)


def of_kind(judged: Judged, genuine: bool) -> Numbers:
    """The scores of one kind."""
    return np.array([score for window, score in judged if window.recording.genuine == genuine])


def _report(
    version: str,
    medium: Medium,
    judged: dict[str, Judged],
    found: Collection,
    seen: set[tuple[bool, str]],
    trained: TrainedModel | None,
) -> Report:
    """Figures of what was not seen, if there is some of both kinds, else of everything."""
    fresh = {(genuine, group) for genuine in (True, False) for group in found.groups(genuine)} - seen
    unseen = {genuine for genuine, _ in fresh} == {True, False}
    used = {
        condition: [(window, score) for window, score in all_of_it if not unseen or _key(window) in fresh]
        for condition, all_of_it in judged.items()
    }
    meeting = condition_of(medium, medium.meeting_kbps)
    counts = media.counts([window for window, _ in used[meeting]])
    if not counts.genuine_windows or not counts.synthetic_windows:
        raise MediaError("there are not windows of both kinds: every file is too short, or shows no face")
    calibration, reliability, own_media = calibrate(used[meeting])
    return Report(
        model=version,
        base=trained.base if trained else "",
        day=datetime.now(UTC).date(),
        used=counts,
        unseen=unseen and trained is not None,
        meeting=meeting,
        rows=[_row(condition, scores) for condition, scores in used.items()],
        groups=_groups(judged[meeting], found, seen),
        refused=len(found.refused) / found.recordings.total(),
        calibration=calibration,
        reliability=reliability,
        own_media=own_media,
        fixture="",
    )


def _key(window: Window) -> tuple[bool, str]:
    return window.recording.genuine, window.recording.group


def _row(condition: str, judged: Judged) -> Row:
    genuine, synthetic = of_kind(judged, True), of_kind(judged, False)
    return Row(
        condition,
        metrics.equal_error(genuine, synthetic).rate,
        metrics.auc(genuine, synthetic),
        metrics.errors(genuine, synthetic),
    )


def calibrate(judged: Judged) -> tuple[Calibration | None, Reliability | None, bool]:
    """A calibration set by every second person and generator, how well it does on the others, and whether there are no others.

    None if the scores of genuine media are not the higher ones.
    """
    halves: tuple[Judged, Judged] = ([], [])
    for genuine in (True, False):
        names = sorted({window.recording.group for window, _ in judged if window.recording.genuine == genuine})
        for window, score in judged:
            if window.recording.genuine == genuine:
                halves[names.index(window.recording.group) % 2].append((window, score))
    own_media = not (len(of_kind(halves[1], True)) and len(of_kind(halves[1], False)))
    setting, trying = (judged, judged) if own_media else halves
    genuine_scores, synthetic_scores = of_kind(judged, True), of_kind(judged, False)
    doubt = min(0.5, max(LEAST_DOUBT, metrics.equal_error(genuine_scores, synthetic_scores).rate))
    try:
        calibration = metrics.fit_calibration(of_kind(setting, True), of_kind(setting, False), doubt)
    except ValueError:
        return None, None, own_media
    likelihoods = [[calibration.likelihood(score) for score in of_kind(trying, kind)] for kind in (True, False)]
    return calibration, metrics.reliability(*likelihoods), own_media


def _groups(judged: Judged, found: Collection, seen: set[tuple[bool, str]]) -> list[Group]:
    threshold = metrics.equal_error(of_kind(judged, True), of_kind(judged, False)).threshold
    groups = []
    for genuine in (True, False):
        for name in found.groups(genuine):
            scores = np.array([score for window, score in judged if _key(window) == (genuine, name)])
            groups.append(
                Group(
                    name=name,
                    genuine=genuine,
                    seen=(genuine, name) in seen,
                    windows=len(scores),
                    refused=sum((one.genuine, one.group) == (genuine, name) for one in found.refused),
                    score=float(scores.mean()),
                    wrong=float(((scores >= threshold) != genuine).mean()),
                )
            )
    return groups


def _recorded(name: str, report: Report, store: Store) -> Report:
    """Write the figures into the store, if nothing that they rest on was seen in training; say what follows."""
    with store.alone():
        lock = store.lock()
        trained = lock.trained[name]
        if report.unseen:
            trained = trained.model_copy(
                update={"evaluation": _evaluation(report), "calibration": report.calibration},
            )
            store.put(name, lock.models[name], trained)
    return replace(report, fixture=trained.fixture)


def _evaluation(report: Report) -> Evaluation:
    row = next(row for row in report.rows if row.condition == report.meeting)
    return Evaluation(
        day=report.day,
        condition=report.meeting,
        unseen=report.used,
        eer=row.eer,
        auc=row.auc,
        brier=report.reliability.brier if report.reliability else None,
        ece=report.reliability.ece if report.reliability else None,
    )
