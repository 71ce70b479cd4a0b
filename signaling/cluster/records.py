"""What is noted of a room for the machine that may have to go on with it: what a worker keeps for us, of all who are in it."""

from pydantic import BaseModel, ConfigDict

from signaling.participants import ParticipantNotes
from signaling.rooms import Room, RoomNotes


class RoomRecord(BaseModel):
    """Names are in it, so it is never logged; of session keys only hashes are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    room: RoomNotes
    participants: dict[str, ParticipantNotes]

    @classmethod
    def of(cls, room: Room) -> "RoomRecord":
        """As the room is now."""
        participants = {one.id: one.notes() for one in room.participants.values() if not one.gone}
        return cls(room=room.notes(), participants=participants)
