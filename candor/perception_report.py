"""What the demo's observers found, when that counts as success, and how it reads on a terminal."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from media_processors.findings import Authenticity, Expression, Faces, Finding

FACE, VOICE = "face_authenticity", "voice_authenticity"
TRUTH = {FACE: "a photograph of a person", VOICE: "synthetic: flite's voice slt"}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Unavailable(_Part):
    """An observer that is not here, and what would bring it."""

    name: str
    reason: str
    command: str


class Observed(_Part):
    """A finding, and how long after the observers were switched on it came."""

    after_s: float
    finding: Finding

    @property
    def sentence(self) -> str:
        """It for a person."""
        finding = self.finding
        if isinstance(finding, Authenticity):
            return f"{finding.kind}: {_evidence(finding)}"
        if isinstance(finding, Expression):
            return f"expression: {finding.label} ({finding.probability:.2f})"
        if isinstance(finding, Faces):
            return "; ".join(
                f"face {face.face_id}: {100 * face.width:.0f} % of the width, turned {face.yaw_degrees:+.0f}, "
                f"nods {face.pitch_degrees:+.0f}, tilts {face.roll_degrees:+.0f} degrees"
                for face in finding.faces
            )
        return finding.kind


class PerceptionReport(_Part):
    """What observers found about a real face and a synthetic voice; empty where nothing is installed."""

    unavailable: list[Unavailable] = []
    models: dict[str, str] = Field(default={}, description="name@version by observer")
    observed: list[Observed] = Field(default=[], description="what was news")
    problems: list[str] = []

    def of(self, kind: str) -> list[Observed]:
        """The findings of one kind."""
        return [one for one in self.observed if one.finding.kind == kind]


def failed_perception(report: PerceptionReport) -> list[str]:
    """An observer that is here must find something; evidence must not suffice at once, but come to a likelihood."""
    failed = list(report.problems)
    for name in report.models:
        found = [one.finding for one in report.of(name)]
        if not found:
            failed.append(f"{name}: found nothing")
        evidence = [one for one in found if isinstance(one, Authenticity)]
        if evidence and evidence[-1].likelihood is None:
            failed.append(f"{name}: came to no likelihood ({evidence[-1].reason or evidence[-1].verdict})")
        if evidence and evidence[0].verdict != "insufficient_evidence":
            failed.append(f"{name}: was sure at once")
    return failed


def render_perception(report: PerceptionReport) -> list[str]:
    """Lines of text."""
    lines = ["", "Perception of a real face and a synthetic voice"]
    for name, model in report.models.items():
        found = report.of(name)
        last = found[-1].sentence if found else "found nothing"
        truth = f"   <- in truth {TRUTH[name]}" if name in TRUTH else ""
        lines.append(f"  {last}  by {model}{truth}")
        lines += _growth([one for one in found if isinstance(one.finding, Authenticity)])
    for missing in report.unavailable:
        fix = f"; to fix it: {missing.command}" if missing.command else ""
        lines.append(f"  {missing.name:<18} unavailable  {missing.reason}{fix}")
    return lines


def _growth(found: Sequence[Observed]) -> list[str]:
    return [f"      after {one.after_s:4.1f} s  {one.sentence.split(': ', 1)[1]}" for one in found[:-1]]


def _evidence(finding: Authenticity) -> str:
    seconds = f"{finding.evidence_ms / 1000:.0f} s of evidence"
    if finding.likelihood is None:
        return f"{finding.verdict.replace('_', ' ')} ({finding.reason}, {seconds})"
    return f"{finding.verdict.replace('_', ' ')}, likelihood of synthetic {finding.likelihood:.2f} ({seconds})"
