"""A light tracker: a face keeps its name from picture to picture as long as it stays about where it was."""

from dataclasses import dataclass

from models.questions import FaceBox

SAME = 0.3
"""Two boxes that share so much of their union are one face."""
FORGET_MS = 2_000
"""A face that was not seen for so long has left; if it comes back it is another one."""
MAX_FACES = 10
"""The largest ones; more than that is a crowd."""


@dataclass(slots=True)
class TrackedFace:
    """A face that is or was just now in the picture."""

    face_id: str
    box: FaceBox
    """In the pixels of the newest picture that it was seen in."""
    place: FaceBox
    """The same in shares of that picture, whose size changes with the layer."""
    seen_ms: int


class FaceTracker:
    """Of one track."""

    def __init__(self) -> None:
        self._faces: list[TrackedFace] = []
        self._named = 0

    def update(self, boxes: tuple[FaceBox, ...], width: int, height: int, at_ms: int) -> list[TrackedFace]:
        """Those of this picture of `width` x `height` with their names, in the order of `boxes`, at most `MAX_FACES`."""
        self._faces = [face for face in self._faces if at_ms - face.seen_ms <= FORGET_MS]
        boxes = boxes[:MAX_FACES]
        places = [_share(box, width, height) for box in boxes]
        pairs = sorted(
            ((overlap(face.place, place), face, index) for face in self._faces for index, place in enumerate(places)),
            key=lambda pair: pair[0],
            reverse=True,
        )
        found: dict[int, TrackedFace] = {}
        for share, face, index in pairs:
            if share >= SAME and index not in found and face not in found.values():
                face.box, face.place, face.seen_ms = boxes[index], places[index], at_ms
                found[index] = face
        for index, box in enumerate(boxes):
            if index not in found:
                self._named += 1
                found[index] = TrackedFace(f"face-{self._named}", box, places[index], at_ms)
                self._faces.append(found[index])
        return [found[index] for index in range(len(boxes))]


def _share(box: FaceBox, width: int, height: int) -> FaceBox:
    return FaceBox(box.x / width, box.y / height, box.width / width, box.height / height, box.score, ())


def overlap(one: FaceBox, other: FaceBox) -> float:
    """Intersection over union, 0 to 1."""
    left, top = max(one.x, other.x), max(one.y, other.y)
    right = min(one.x + one.width, other.x + other.width)
    bottom = min(one.y + one.height, other.y + other.height)
    common = max(0.0, right - left) * max(0.0, bottom - top)
    union = one.width * one.height + other.width * other.height - common
    return common / union if union > 0 else 0.0
