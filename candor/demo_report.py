"""What the demo found, when that counts as success, and how it reads on a terminal."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from candor.perception_report import PerceptionReport, failed_perception, render_perception
from media_processors.findings import ProcessorInfo, ProcessorStatus

MIN_NOISE_REDUCTION_DB = 10.0
MAX_STOI_LOSS = 0.02
MAX_CLEAN_WER = 0.5
MAX_LOST_SHARE = 0.02
CAPTION_SLACK_NS = 700_000_000
SPEAKER_SLACK_NS = 1_500_000_000


@dataclass(frozen=True, slots=True)
class SoundQuality:
    """One passage as heard. `pause_noise_db` is relative to the speech of the same recording.

    That speech level includes the noise under it, which understates a reduction by about 1 dB when 5 dB of noise goes away.
    """

    pause_noise_db: float
    stoi: float
    si_sdr_db: float
    delay_ms: float


@dataclass(frozen=True, slots=True)
class PlayedTurn:
    """Somebody spoke: who, what, and when on the monotonic clock. `group` names the lines that are scored together."""

    participant_id: str
    name: str
    group: str
    text: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class HeardCaption:
    """A final caption as it arrived: under which name, covering which stretch of the monotonic clock."""

    participant_id: str
    name: str
    text: str
    start_ns: int
    end_ns: int
    latency_ms: int


@dataclass(frozen=True, slots=True)
class NamedSpeakers:
    """Who was said to be speaking from `since_ns` on."""

    since_ns: int
    participant_ids: frozenset[str]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PacketLine(_Part):
    """One track at the listener. `stalled_ms`: sound that its bot could not send in time, because the computer was busy."""

    name: str
    received: int
    lost: int
    duplicates: int
    stalled_ms: int


class MachineLine(_Part):
    """How busy the computer was during the demo: shares of all its cores together, from 0 to 1."""

    idle: float
    stolen: float = Field(description="taken by the hypervisor for other machines")


class PathStats(_Part):
    """The media path by the server's own count, since its start. `bypassed` counts raw packets sent on a processed track."""

    processed: int
    bypassed: int
    dropped: int
    guards: int = Field(description="how often a guard switched to the dry sound")
    tap_to_inject_ms_p50: float | None
    tap_to_inject_ms_p99: float | None


class DenoiseLine(_Part):
    """The noisy passage with denoise on and off. A quality is None if that passage could not be measured."""

    available: bool
    reason: str = ""
    command: str = ""
    on: SoundQuality | None = None
    off: SoundQuality | None = None
    states_while_on: list[str] = Field(default_factory=list)
    repeated: list[str] = Field(default_factory=list, description="what disturbed each time that was not the last")

    @property
    def reduction_db(self) -> float | None:
        """How much lower the noise in pauses is with denoise on."""
        return self.off.pause_noise_db - self.on.pause_noise_db if self.on and self.off else None

    @property
    def stoi_change(self) -> float | None:
        """STOI on minus STOI off."""
        return self.on.stoi - self.off.stoi if self.on and self.off else None


class CaptionLine(_Part):
    """A final caption, and who really spoke then (None: nobody)."""

    name: str
    spoken_by: str | None
    text: str
    latency_ms: int

    @property
    def right(self) -> bool:
        """Whether the right speaker was named."""
        return self.name == self.spoken_by


class TextLine(_Part):
    """The words of a group of turns against what was captioned; `wer` is errors per word spoken."""

    group: str
    spoken: str
    captioned: str
    wer: float


class TurnLine(_Part):
    """A turn that was played, and whether its speaker was named as active during it."""

    name: str
    text: str
    found: bool


class DemoReport(_Part):
    """Everything the demo measured. `failed` names each condition that was not met; empty means success."""

    seconds: float
    join_to_first_packet_ms: float | None
    packets: list[PacketLine]
    denoise: DenoiseLine
    path: PathStats | None
    captions_model: str
    captions_quality: str
    captions: list[CaptionLine]
    texts: list[TextLine]
    turns: list[TurnLine]
    wrongly_named_speakers: int
    processors: list[ProcessorInfo]
    processor_status: list[ProcessorStatus]
    problems: list[str]
    perception: PerceptionReport = PerceptionReport()
    machine: MachineLine | None = Field(default=None, description="None where the system does not tell")
    failed: list[str] = Field(default_factory=list)


def caption_lines(captions: Sequence[HeardCaption], played: Sequence[PlayedTurn]) -> list[CaptionLine]:
    """Each caption with the speaker of the turn that it overlaps most."""
    lines = []
    for caption in captions:
        turn = spoken_turn(caption, played)
        spoken_by = turn.name if turn else None
        lines.append(
            CaptionLine(name=caption.name, spoken_by=spoken_by, text=caption.text, latency_ms=caption.latency_ms)
        )
    return lines


def spoken_turn(caption: HeardCaption, played: Sequence[PlayedTurn]) -> PlayedTurn | None:
    """The turn that overlaps a caption's stretch of time most, allowing 0.7 s at its ends; None if there is none."""

    def overlap_ns(turn: PlayedTurn) -> int:
        begin = max(caption.start_ns, turn.start_ns - CAPTION_SLACK_NS)
        return min(caption.end_ns, turn.end_ns + CAPTION_SLACK_NS) - begin

    best = max(played, key=overlap_ns, default=None)
    return best if best is not None and overlap_ns(best) > 0 else None


def text_lines(captions: Sequence[HeardCaption], played: Sequence[PlayedTurn]) -> list[TextLine]:
    """Word errors per group: the texts of its turns against the captions under its speaker's name in that time."""
    lines = []
    for group in dict.fromkeys(turn.group for turn in played):
        turns = [turn for turn in played if turn.group == group]
        own = {turn.participant_id for turn in turns}
        heard = [
            caption
            for caption in captions
            if caption.participant_id in own and (turn := spoken_turn(caption, played)) and turn.group == group
        ]
        spoken = " ".join(turn.text for turn in turns)
        captioned = " ".join(caption.text for caption in sorted(heard, key=lambda caption: caption.start_ns))
        lines.append(TextLine(group=group, spoken=spoken, captioned=captioned, wer=word_errors(spoken, captioned)))
    return lines


def word_errors(spoken: str, captioned: str) -> float:
    """Word error rate without regard to case and punctuation; above 1 if many words were invented."""
    import jiwer  # of the extra `demo`; the server takes only types from this module, and has no such extra

    return float(jiwer.wer(_words(spoken), _words(captioned)))


def _words(text: str) -> str:
    return " ".join(re.findall(r"[\w']+", text.lower()))


def turn_lines(named: Sequence[NamedSpeakers], played: Sequence[PlayedTurn]) -> tuple[list[TurnLine], int]:
    """Which turns were found, and how many times somebody was named who was not speaking (1.5 s of afterglow allowed)."""
    ends = [*(entry.since_ns for entry in named[1:]), max((turn.end_ns for turn in played), default=0)]
    spans = list(zip(named, ends, strict=False))
    lines = [
        TurnLine(
            name=turn.name,
            text=turn.text,
            found=any(
                turn.participant_id in entry.participant_ids and entry.since_ns < turn.end_ns and end > turn.start_ns
                for entry, end in spans
            ),
        )
        for turn in played
    ]
    wrong = 0
    before: frozenset[str] = frozenset()
    for entry in named:
        for participant_id in entry.participant_ids - before:
            speaking = any(
                turn.participant_id == participant_id
                and turn.start_ns <= entry.since_ns <= turn.end_ns + SPEAKER_SLACK_NS
                for turn in played
            )
            wrong += not speaking
        before = entry.participant_ids
    return lines, wrong


def failed_conditions(report: DemoReport, clean_group: str) -> list[str]:
    """What keeps the demo from having shown its main job, one sentence each."""
    return [
        *report.problems,
        *_failed_media(report.packets),
        *_failed_denoise(report.denoise),
        *_failed_captions(report, clean_group),
    ]


def with_perception(report: DemoReport, perception: PerceptionReport) -> DemoReport:
    """The report, and what observers found after it."""
    return report.model_copy(
        update={"perception": perception, "failed": [*report.failed, *failed_perception(perception)]}
    )


def _failed_media(packets: Sequence[PacketLine]) -> list[str]:
    failed = [f"media: nothing of {line.name} reached the listener" for line in packets if not line.received]
    for line in packets:
        if line.lost > MAX_LOST_SHARE * (line.received + line.lost):
            failed.append(f"media: {line.lost} of {line.received + line.lost} packets of {line.name} were lost")
    return failed if packets else ["media: nobody spoke"]


def _failed_denoise(denoise: DenoiseLine) -> list[str]:
    if not denoise.available:
        return [f"denoise: unavailable ({denoise.reason or 'no reason given'})"]
    if denoise.reduction_db is None or denoise.stoi_change is None:
        return ["denoise: could not be measured"]
    failed = []
    if denoise.reduction_db < MIN_NOISE_REDUCTION_DB:
        failed.append(
            f"denoise: noise in pauses fell by {denoise.reduction_db:.1f} dB, not by {MIN_NOISE_REDUCTION_DB:g}"
        )
    if denoise.stoi_change < -MAX_STOI_LOSS:
        failed.append(f"denoise: STOI fell by {-denoise.stoi_change:.3f}, more than {MAX_STOI_LOSS:g}")
    return failed


def _failed_captions(report: DemoReport, clean_group: str) -> list[str]:
    if not report.captions:
        return ["captions: there was no final line"]
    failed = [
        f"captions: a line was put under {line.name} while {line.spoken_by or 'nobody'} spoke"
        for line in report.captions
        if not line.right
    ]
    clean = [text for text in report.texts if text.group == clean_group]
    if not clean:
        failed.append(f"captions: {clean_group} said nothing that could be checked")
    for text in clean:
        if text.wer > MAX_CLEAN_WER:
            failed.append(f"captions: word error rate of {text.group} is {text.wer:.2f}, above {MAX_CLEAN_WER:g}")
    return failed


def render(report: DemoReport) -> str:
    """The report for a person, as lines of text."""
    lines = ["", f"Candor demo: {report.seconds:.0f} s", "", "Media at the listener"]
    first_ms = report.join_to_first_packet_ms
    lines.append(f"  join to first packet   {first_ms:.0f} ms" if first_ms is not None else "  no packet came")
    lines += [_render_packets(line) for line in report.packets]
    lines += ["", "Denoise, pink noise at 5 dB", *_render_denoise(report.denoise), *_render_path(report.path)]
    quality = f" ({report.captions_quality} quality)" if report.captions_quality else ""
    lines += ["", f"Captions by {report.captions_model or 'nobody'}{quality}"]
    for line in report.captions:
        wrong = "" if line.right else f"   <- {line.spoken_by or 'nobody'} spoke"
        lines.append(f"  {line.name:<10} {line.latency_ms:>5} ms  {line.text}{wrong}")
    lines += [f"  word error rate {text.wer:.2f}   {text.group}" for text in report.texts]
    found = sum(turn.found for turn in report.turns)
    lines += [
        "",
        f"Speakers: {found} of {len(report.turns)} turns found, {report.wrongly_named_speakers} wrongly named",
    ]
    lines += [f"  not found: {turn.name}: {turn.text}" for turn in report.turns if not turn.found]
    lines += render_perception(report.perception)
    if report.machine is not None:
        lines.append(
            f"This computer: {report.machine.idle:.0%} idle, {report.machine.stolen:.0%} taken by other machines"
        )
    lines += ["", "Processors", *(_render_processor(info) for info in report.processors), ""]
    lines += [f"FAILED  {sentence}" for sentence in report.failed] or [
        "Everything that the demo checks is as it should be."
    ]
    return "\n".join(lines)


def _render_packets(line: PacketLine) -> str:
    stalled = f"; its bot stalled for {line.stalled_ms} ms" if line.stalled_ms else ""
    return f"  {line.name:<22} {line.received} packets, {line.lost} lost{stalled}"


def _render_denoise(denoise: DenoiseLine) -> list[str]:
    if not denoise.available:
        fix = f"; to fix it: {denoise.command}" if denoise.command else ""
        return [f"  unavailable: {denoise.reason or 'no reason given'}{fix}"]
    lines = []
    for name, quality in (("off", denoise.off), ("on", denoise.on)):
        if quality is not None:
            lines.append(
                f"  {name:<4} noise in pauses {quality.pause_noise_db:6.1f} dB   STOI {quality.stoi:.3f}   "
                f"SI-SDR {quality.si_sdr_db:5.1f} dB (for information)"
            )
    if denoise.reduction_db is not None and denoise.stoi_change is not None:
        lines.append(f"  noise {denoise.reduction_db:.1f} dB lower, STOI {denoise.stoi_change:+.3f}")
    lines += [f"  played again: {repeated}" for repeated in denoise.repeated]
    return lines


def _render_path(path: PathStats | None) -> list[str]:
    if path is None:
        return ["  the server's own counts were not asked for"]
    lines = [
        f"  packets: {path.processed} processed, {path.bypassed} bypassed, {path.dropped} dropped; guard {path.guards} times"
    ]
    if path.tap_to_inject_ms_p50 is not None and path.tap_to_inject_ms_p99 is not None:
        lines.append(f"  tap to inject: p50 {path.tap_to_inject_ms_p50:.2f} ms, p99 {path.tap_to_inject_ms_p99:.2f} ms")
    return lines


def _render_processor(info: ProcessorInfo) -> str:
    if info.available:
        return f"  {info.name:<14} available    {info.model}"
    fix = f"; to fix it: {info.command}" if info.command else ""
    return f"  {info.name:<14} unavailable  {info.reason}{fix}"
