"""A report as files: `report.json`, `report.md` and `det.svg`."""

import json
from dataclasses import asdict
from pathlib import Path

from models.training import det
from models.training.evaluate import Group, Report, Row
from models.training.metrics import Reliability


def write(report: Report, folder: Path) -> None:
    """Write the three files. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(as_json(report), indent=1) + "\n")
    (folder / "report.md").write_text(as_markdown(report))
    windows = f"{report.used.genuine_windows} genuine, {report.used.synthetic_windows} synthetic windows"
    (folder / "det.svg").write_text(
        det.plot(report.model, windows, [(row.condition, row.errors) for row in report.rows])
    )


def as_json(report: Report) -> dict[str, object]:
    """Everything but the error rates at each threshold, which the plot has."""
    rows = [{"condition": row.condition, "eer": row.eer, "auc": row.auc} for row in report.rows]
    return {
        "model": report.model,
        "base": report.base,
        "day": report.day.isoformat(),
        "used": report.used.model_dump(),
        "unseen": report.unseen,
        "meeting": report.meeting,
        "rows": rows,
        "groups": [asdict(group) for group in report.groups],
        "refused": report.refused,
        "calibration": asdict(report.calibration) if report.calibration else None,
        "reliability": asdict(report.reliability) if report.reliability else None,
        "calibration_tried_on_its_own_media": report.own_media,
        "fixture": report.fixture,
    }


def as_markdown(report: Report) -> str:
    """For people."""
    used = report.used
    parts = [
        f"# {report.model}, {report.day}",
        f"{used.genuine_windows} genuine windows (people: {used.speakers}), {used.synthetic_windows} synthetic windows "
        f"(generators: {used.generators}); {_whose(report)}. Files without a window (too short, or no face): {report.refused:.0%}.",
        *([f"**A fixture: no meeting asks it.** {_sentence(report.fixture)}"] if report.fixture else []),
        "EER: the error rate at the threshold where genuine windows are called synthetic as often as the other way round; 50 % is "
        "chance. AUC: the chance that a genuine window scores higher than a synthetic one; .50 is chance.",
        _table(["condition", "EER", "AUC"], [_row(row, report.meeting) for row in report.rows]),
        "![DET plot](det.svg)",
        f"## Each person and each generator, {report.meeting}",
        _table(
            ["who", "kind", "in training", "windows", "files without", "mean score", "on the wrong side"],
            [_group(group, report) for group in report.groups],
        ),
        *_calibration(report),
    ]
    return "\n\n".join(parts) + "\n"


def _whose(report: Report) -> str:
    if report.unseen:
        return "training had met none of them"
    return (
        "**training had met some of them**"
        if report.base
        else "whether its authors trained on any of them is not known here"
    )


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def _row(row: Row, meeting: str) -> list[str]:
    name = f"**{row.condition}**" if row.condition == meeting else row.condition
    return [name, f"{row.eer:.1%}", f"{row.auc:.3f}"]


def _group(group: Group, report: Report) -> list[str]:
    kind = "genuine" if group.genuine else "synthetic"
    seen = ("yes" if group.seen else "no") if report.base else "not known"
    name = group.name.replace("|", "\\|")
    return [name, kind, seen, str(group.windows), str(group.refused), f"{group.score:+.2f}", f"{group.wrong:.0%}"]


def _calibration(report: Report) -> list[str]:
    calibration, reliability = report.calibration, report.reliability
    if calibration is None or reliability is None:
        return ["## Calibration", "None: genuine windows do not score higher than synthetic ones."]
    halves = "Half of the people and generators set it, the others tried it"
    how = "**It was tried on the media that set it**" if report.own_media else halves
    return [
        "## Calibration",
        f"likelihood = {calibration.doubt:.3f} + {1 - 2 * calibration.doubt:.3f} / (1 + exp({calibration.slope:.3f} * (score - "
        f"{calibration.centre:.3f}))). {how}: expected calibration error {reliability.ece:.3f}, "
        f"Brier score {reliability.brier:.3f} (always .5 would have .250). Genuine and synthetic media count half each.",
        _table(["likelihood", "share of media", "mean likelihood", "was synthetic"], _bins(reliability)),
    ]


def _bins(reliability: Reliability) -> list[list[str]]:
    return [
        [f"{one.low:.1f} - {one.high:.1f}", f"{one.share:.0%}", f"{one.likelihood:.2f}", f"{one.synthetic:.0%}"]
        for one in reliability.bins
    ]
