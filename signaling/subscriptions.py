"""Which tracks somebody shall receive: computed from the room and their wishes, never remembered."""

from collections.abc import Iterable

from sfu.channel.messages import SetSubscriptions, WantedTrack
from signaling.participants import Participant, Track


def wanted(participant: Participant, tracks: Iterable[Track]) -> SetSubscriptions:
    """The desired state of a subscribe transport. `tracks` is all that the room publishes.

    By default that is every track of the others; with `auto` off just those named. The size is that of the tile, if one
    was reported.
    """
    wish = participant.subscription
    only = set(wish.only)
    tiles = {tile.track_id: tile for tile in wish.tiles}
    chosen = []
    for track in tracks:
        if track.participant_id == participant.id or not (wish.auto or track.track_id in only):
            continue
        tile = tiles.get(track.track_id)
        if tile is None:
            chosen.append(WantedTrack(track_id=track.track_id))
        else:
            chosen.append(WantedTrack(track_id=track.track_id, width=tile.width, height=tile.height))
    return SetSubscriptions(participant_id=participant.id, tracks=chosen)
