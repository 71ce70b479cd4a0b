"""Minutes of findings about the page's own person, and what the others may know: for the drawer of details.

Time in the page is what the last finding says (`TOLD_TIME` must run before the page does), so that nothing depends on how busy
the machine is.
"""

from media_processors.findings import (
    Expression,
    EyeDirection,
    FaceAuthenticity,
    Faces,
    Finding,
    ProcessorInfo,
    ProcessorStatus,
    Prosody,
    SeenFace,
    TextEmotion,
    VoiceAuthenticity,
)
from tests.e2e.mock_meeting import MockMeeting

TOLD_TIME = """
const begunMs = performance.now();
let toldMs = 0;
performance.now = () => begunMs + toldMs;
window.WebSocket = class extends WebSocket {
  constructor(...args) {
    super(...args);
    this.addEventListener('message', ({ data }) => {
      toldMs = Math.max(toldMs, Number(/"finding".*"end_ms":(\\d+)/.exec(data)?.[1] ?? 0));
    });
  }
};
"""
AUDIO = ("prosody", "text_emotion", "voice_emotion", "voice_authenticity")
VIDEO = ("expression", "faces", "eye_direction", "face_authenticity")
MISSING = ProcessorInfo(
    name="voice_emotion",
    kind="observer",
    media="audio",
    available=False,
    default_on=False,
    about="emotion",
    reason="its weights have not been pulled",
    command="candor models pull wav2vec2-base-superb-er",
)
KNOWN = "66 % accuracy on FER2013 (paper), where people agree with each other in about 65 %."


def everything(meeting: MockMeeting, **without: str) -> None:
    """All processors, all on for the page's person and for Ada, but the emotion in the voice, whose model is missing.

    `without` names processors and the state that they are in instead.
    """
    meeting.processors = [
        ProcessorInfo(name=name, kind="observer", media=media, available=True, model=f"{name}@1", default_on=False)
        for media, names in (("audio", AUDIO), ("video", VIDEO))
        for name in names
        if name != MISSING.name
    ]
    meeting.processors.insert(2, MISSING)
    meeting.processor_status = [
        ProcessorStatus(track_id=track, processor=name, state=without.get(name, "on"))
        for names, tracks in ((AUDIO, ("self-microphone", "ada-mic")), (VIDEO, ("self-camera", "ada-cam")))
        for name in names
        if name != MISSING.name
        for track in tracks
    ]


def _about(track: str, person: str = "self") -> dict[str, object]:
    ids = {"room_id": "weekly", "participant_id": person, "track_id": track}
    return {**ids, "epoch": 0, "start_ms": 0, "end_ms": 900, "model": "model@1a2b3c4d"}


def spoke(pitch_hz: float, rate: float) -> Finding:
    return Prosody(**_about("self-microphone"), level_dbfs=-22, pitch_hz=pitch_hz, syllables_per_s=rate, speech_ms=2000)


def showed(label: str) -> Finding:
    guess = {"label": label, "probability": 0.8, "probabilities": {label: 0.8}, "known_errors": KNOWN}
    return Expression(**_about("self-camera"), face_id="face-1", **guess)


def said(label: str) -> Finding:
    guess = {"label": label, "probability": 0.8, "probabilities": {label: 0.8}}
    return TextEmotion(**_about("self-microphone"), segment_id="s1", known_errors="66 % (model card).", **guess)


def voice(person: str = "self", **changes: object) -> Finding:
    track = "self-microphone" if person == "self" else f"{person}-mic"
    fields = {
        "verdict": "likely_genuine",
        "reason": "",
        "likelihood": 0.07,
        "score": 4.81,
        "evidence_ms": 24_000,
        "windows": 6,
        "known_errors": "0.83 % EER on ASVspoof 2019 LA (paper); far more on today's generators.",
    }
    return VoiceAuthenticity.model_validate(_about(track, person) | fields | changes)


def face(**changes: object) -> Finding:
    fields = {
        "verdict": "insufficient_evidence",
        "reason": "duration",
        "likelihood": None,
        "score": 0.42,
        "evidence_ms": 3000,
        "windows": 6,
        "known_errors": "91.7 % accuracy on its authors' set (paper); on faces in the wild much less.",
    }
    return FaceAuthenticity.model_validate(_about("self-camera") | {"face_id": "face-1"} | fields | changes)


def seen() -> Finding:
    place = {"x": 0.4, "y": 0.2, "width": 0.2, "height": 0.4, "score": 0.9}
    turned = {"yaw_degrees": 4.0, "pitch_degrees": -3.0, "roll_degrees": 1.0}
    return Faces(**_about("self-camera"), faces=[SeenFace(face_id="face-1", **place, **turned)], facing_share=0.94)


def looked() -> Finding:
    towards = {"yaw_degrees": 3.0, "pitch_degrees": -8.0, "looks_yaw_degrees": 2.0, "looks_pitch_degrees": 1.0}
    shares = {"at_screen": True, "screen_share": 0.88, "known_errors": "A photograph: within 5 degrees (measured)."}
    return EyeDirection(**_about("self-camera"), face_id="face-1", eyes="open", **towards, **shares)


class Timeline:
    """What a meeting sends over minutes that nobody has to wait for."""

    def __init__(self, meeting: MockMeeting) -> None:
        self._meeting = meeting
        self._now_ms = 0

    async def find(self, finding: Finding) -> None:
        """Send a finding."""
        await self._meeting.emit("finding", finding=finding.model_copy(update={"end_ms": self._now_ms}))

    async def skip(self, ms: int) -> None:
        """Let so much time pass."""
        self._now_ms += ms
        await self.find(seen())

    async def talk_in_turn(self) -> None:
        """The person 96 s, Ada 54, Noor 30."""
        for person, ms in (("self", 96_000), ("ada", 54_000), ("noor", 30_000)):
            speaker = {"participant_id": person, "track_id": f"{person}-mic", "level_dbov": -22}
            await self._meeting.emit("active_speakers", speakers=[speaker])
            await self.skip(ms)
        await self._meeting.emit("active_speakers", speakers=[])

    async def minutes(self) -> None:
        """Four and a half, in which the person spoke, was silent, and spoke again; then what is found now."""
        faces = ["neutral"] * 9 + ["happy"] * 4 + ["neutral"] * 5 + ["surprise"] * 2 + ["sad"] * 3 + ["neutral"] * 4
        words = {3: "neutral", 6: "joy", 9: "joy", 17: "surprise", 21: "sadness"}
        for index, label in enumerate(faces):
            for _ in range(3):
                await self.find(showed(label))
                await self.skip(3_400)
            if index not in (11, 12, 13):
                await self.find(spoke(118 + 9 * (index * 7 % 5), 3.2 + 0.4 * (index * 3 % 4)))
            if index in words:
                await self.find(said(words[index]))
        for finding in (voice(), face(), looked(), showed("neutral")):
            await self.find(finding)
