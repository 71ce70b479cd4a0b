"""A participant written in Python: joins, publishes, listens, and finds its way back after a lost connection."""

import asyncio
import contextlib
import enum
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog

from bots import loopback
from bots.client import SignalingClient
from bots.errors import BotClosed, BotError, ConnectionLost
from bots.feed import Feed
from bots.media import PublishConnection, ReceivedTrack, SubscribeConnection
from bots.nodes import Nodes
from bots.publication import AudioPublication, Publication, VideoPublication
from bots.room import RoomView
from bots.rtp_hook import RtpCallback
from bots.sources import AudioSource, VideoSource
from media_processors.findings import Caption, Finding
from signaling.protocol import messages as wire
from signaling.protocol.codes import CloseReason, ErrorCode

FINDINGS_WAITING = 256
RESUME_WINDOW_S = 30.0
FIRST_RETRY_S = 0.25
LONGEST_RETRY_S = 4.0
REDIRECTED_S = 8.0
LONGEST_RETRY_AMONG_S = 0.5
"""Where there are several servers, another one may go on with the room at any moment."""
BROKEN = frozenset({"failed", "closed"})

M = TypeVar("M", bound=wire.Message)
_log = structlog.get_logger()


class BotState(enum.Enum):
    """NEW -> JOINED <-> RECONNECTING -> CLOSED."""

    NEW = "new"
    JOINED = "joined"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


class MeetingBot:
    """`async with MeetingBot(url, room, name) as bot:` is in the room inside the block.

    `bot.room` is the room as the bot sees it, `bot.tracks` what it receives. Requests raise BotError with the server's code
    if they are refused. A lost connection is resumed for 30 s; what was published goes on under `publication.track_id`,
    which may then be another one. `close_reason` says why the bot is no longer in the room.
    """

    def __init__(
        self,
        url: str,
        room: str,
        name: str,
        token: str | None = None,
        *,
        subscribe: bool = True,
        verify_tls: bool = True,
    ) -> None:
        self.room = RoomView()
        self.participant_id = ""
        self.host = False
        self.close_reason: CloseReason | None = None
        self.callback_errors = 0
        self._nodes = Nodes(url)
        self._media_url = ""
        self._join = wire.Join(room_id=room, name=name, token=token, bot=True, stable_ssrcs=True)
        self._wanted = wire.Subscribe(auto=subscribe)
        self._verify_tls = verify_tls
        self._loopback = loopback.is_loopback(url)
        self._state = BotState.NEW
        self._session_key: str | None = None
        self._client = SignalingClient(url, verify_tls)
        self._ice_servers: list[wire.IceServer] = []
        self._publish: PublishConnection | None = None
        self._subscribe: SubscribeConnection | None = None
        self._publications: list[Publication] = []
        self._media_lock = asyncio.Lock()
        self._findings: list[Feed[Finding]] = []
        self._captions: list[Feed[Caption]] = []
        self._callbacks: dict[type[wire.Message], list[Callable[[Any], None]]] = {}
        self._on_track: list[Callable[[ReceivedTrack], None]] = []
        self._on_rtp: RtpCallback | None = None
        self._loop_task: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()

    # --- life

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    @property
    def state(self) -> BotState:
        """Where the bot is in its life."""
        return self._state

    async def start(self) -> None:
        """Join. Raises BotError with the server's reason, ConnectionLost if there is no server."""
        try:
            await self._enter_first()
        except BaseException:
            await self._finish(CloseReason.LEFT)
            raise
        self._loop_task = asyncio.create_task(self._run())

    async def leave(self) -> None:
        """Leave the room for good and let go of everything. Harmless when called again."""
        if self._loop_task is not None:
            self._loop_task.cancel()
            await asyncio.gather(self._loop_task, return_exceptions=True)
            self._loop_task = None
        if self._state is BotState.JOINED:
            with contextlib.suppress(BotError):
                await self._client.request(wire.Leave())
        await self._finish(CloseReason.LEFT)

    async def closed(self) -> CloseReason | None:
        """Wait until the bot is out of the room, and say why."""
        await self._closed.wait()
        return self.close_reason

    # --- publishing

    async def publish_audio(
        self, source: AudioSource, kind: wire.TrackSource = "microphone", *, muted: bool = False
    ) -> AudioPublication:
        """Publish sound. Microphones may be processed by the server; `music` and `screen_audio` are left alone, and stereo."""
        publication = AudioPublication(source, kind)
        publication.muted = muted
        await self._add(publication)
        return publication

    async def publish_video(
        self, source: VideoSource, kind: wire.TrackSource = "camera", *, rate_hz: float = 30.0
    ) -> VideoPublication:
        """Publish pictures; `rate_hz` paces those that carry no time."""
        publication = VideoPublication(source, kind, rate_hz)
        await self._add(publication)
        return publication

    async def unpublish(self, publication: Publication) -> None:
        """Take a track out of the room."""
        async with self._media_lock:
            self._publications.remove(publication)
            await self._publisher().unpublish(publication)

    async def mute(self, publication: Publication, muted: bool = True) -> None:
        """Mute or unmute an own track: silence or black leaves here, and the room is told."""
        publication.muted = muted
        await self._client.request(wire.Mute(track_id=publication.track_id, muted=muted))

    # --- listening

    @property
    def tracks(self) -> dict[str, ReceivedTrack]:
        """What is received now, by track id."""
        return dict(self._subscribe.tracks) if self._subscribe else {}

    async def subscribe(self, auto: bool = True, only: list[str] | None = None) -> None:
        """Receive every track of others, or with `auto=False` just the tracks `only`."""
        self._wanted = wire.Subscribe(auto=auto, only=only or [])
        await self._client.request(self._wanted)

    def captions(self) -> Feed[Caption]:
        """Captions from now on, interim and final. At most 256 wait; the oldest is dropped and counted."""
        feed: Feed[Caption] = Feed(FINDINGS_WAITING)
        self._captions.append(feed)
        return feed

    def findings(self) -> Feed[Finding]:
        """Every finding from now on, captions included. At most 256 wait; the oldest is dropped and counted."""
        feed: Feed[Finding] = Feed(FINDINGS_WAITING)
        self._findings.append(feed)
        return feed

    def on(self, event: type[M], callback: Callable[[M], None]) -> None:
        """Call a plain function for each event of a type of `signaling.protocol.messages`, after `bot.room` has it."""
        self._callbacks.setdefault(event, []).append(callback)

    def on_track(self, callback: Callable[[ReceivedTrack], None]) -> None:
        """Call a plain function for each track that begins to be received."""
        self._on_track.append(callback)

    def on_rtp(self, callback: RtpCallback) -> None:
        """See every received RTP packet before aiortc's jitter buffer. Set it before the bot joins."""
        if self._state is not BotState.NEW:
            raise RuntimeError("on_rtp: set it before the bot joins")
        self._on_rtp = callback

    # --- talking to the room

    async def say(self, text: str) -> None:
        """A line of chat."""
        await self._client.request(wire.Chat(text=text))

    async def set_processor(self, processor: str, on: bool) -> None:
        """Switch a processor on or off for the bot's own tracks."""
        await self._client.request(wire.SetProcessor(processor=processor, on=on))

    # --- inside

    def _set_state(self, state: BotState) -> None:
        if state is self._state:
            return
        _log.info("bot_state", old=self._state.value, new=state.value, participant_id=self.participant_id)
        self._state = state

    async def _enter_first(self) -> None:
        """Join; a server that we are sent to may have died a moment ago, which the others learn when its lease ends."""
        deadline = time.monotonic() + REDIRECTED_S
        while True:
            try:
                await self._enter(self._join)
                return
            except ConnectionLost:
                if not self._nodes.several or time.monotonic() > deadline:
                    raise
            self._nodes.failed()
            await asyncio.sleep(FIRST_RETRY_S)
            await self._use_node()

    async def _enter(self, join: wire.Join) -> None:
        """Connect and join, wherever the room is; build media unless the transports of a resumed session still work."""
        join, result = await self._follow(join)
        self._nodes.joined(result.nodes)
        self._media_url = self._nodes.url
        self.participant_id = result.participant_id
        self.host = result.host
        self._session_key = result.session_key
        self._ice_servers = result.ice_servers
        self.room.reset(result.room)
        if self._wanted != wire.Subscribe():
            await self._client.request(self._wanted)
        if result.resumed and not join.fresh_transports and self._publish and self._subscribe:
            self._publish.use(self._client)
            self._subscribe.use(self._client)
            self._use_ice_servers(result.ice_servers)
        else:
            await self._build_media()
        self._set_state(BotState.JOINED)

    async def _follow(self, join: wire.Join) -> tuple[wire.Join, wire.JoinResult]:
        """Join, where we are sent: what was asked there, and the answer."""
        for hops in range(wire.HOPS_MAX + 1):
            fresh = join.session_key is not None and (join.fresh_transports or self._nodes.url != self._media_url)
            asked = join.model_copy(update={"hops": hops, "fresh_transports": fresh})
            await self._client.connect()
            answer = (await self._client.request(asked, wire.JoinAnswer)).root
            if isinstance(answer, wire.JoinResult):
                return asked, answer
            self._nodes.redirected(answer.redirect)
            await self._use_node()
        raise ConnectionLost("the servers send us in circles")

    async def _use_node(self) -> None:
        """The next connection goes to `_nodes.url`."""
        await self._client.close()
        self._client = SignalingClient(self._nodes.url, self._verify_tls)

    async def _build_media(self) -> None:
        """New transports, and everything that was published again on them."""
        async with self._media_lock:
            await self._close_media()
            self._subscribe = SubscribeConnection(
                self._client, self._ice_servers, self._loopback, self._announce_track, self._on_rtp
            )
            self._publish = PublishConnection(self._client, self._ice_servers, self._loopback)
            for connection in (self._publish.connection, self._subscribe.connection):
                connection.on("connectionstatechange", self._check_media)
            if self._publications:
                await self._publish.publish(self._publications)

    def _use_ice_servers(self, ice_servers: list[wire.IceServer]) -> None:
        self._ice_servers = ice_servers
        for connection in (self._publish, self._subscribe):
            if connection is not None:
                connection.use_ice_servers(ice_servers)

    async def _close_media(self) -> None:
        publish, self._publish = self._publish, None
        subscribe, self._subscribe = self._subscribe, None
        if publish is not None:
            await publish.close()
        if subscribe is not None:
            await subscribe.close()

    def _media_works(self) -> bool:
        if self._publish is None or self._subscribe is None:
            return False
        states = {self._publish.connection.connectionState, self._subscribe.connection.connectionState}
        return not states & BROKEN

    async def _check_media(self) -> None:
        """A broken transport cannot be repaired (no ICE restart in aiortc): drop signaling, which leads to a fresh resume."""
        if self._state is BotState.JOINED and self._publish and self._subscribe and not self._media_works():
            await self._client.close()

    def _announce_track(self, track: ReceivedTrack) -> None:
        for callback in self._on_track:
            self._call(callback, track)

    async def _add(self, publication: Publication) -> None:
        async with self._media_lock:
            await self._publisher().publish([publication])
            self._publications.append(publication)

    def _publisher(self) -> PublishConnection:
        if self._publish is None:
            if self.close_reason is not None:
                raise BotClosed(self.close_reason)
            raise ConnectionLost("not in the room")
        return self._publish

    async def _run(self) -> None:
        while True:
            await self._serve_events()
            if self._closed.is_set():
                return
            self._set_state(BotState.RECONNECTING)
            await self._come_back()

    async def _serve_events(self) -> None:
        while (event := await self._client.next_event()) is not None:
            try:
                await self._handle(event)
            except ConnectionLost:
                return
            except BotError as error:
                _log.warning("bot_refused", code=error.code.value)

    async def _handle(self, event: wire.Message) -> None:
        self.room.apply(event)
        match event:
            case wire.SubscribeOffer() if self._subscribe is not None:
                await self._subscribe.handle_offer(event)
            case wire.FindingEvent(finding=finding):
                self._share(finding)
            case wire.IceServersChanged(ice_servers=ice_servers):
                self._use_ice_servers(ice_servers)
            case wire.TransportReplace():
                await self._build_media()
            case wire.TrackMuted(track_id=track_id, muted=muted):
                self._follow_mute(track_id, muted)
            case wire.Moved(url=url):
                self._nodes.moved(url)
                await self._client.close()
            case wire.Closed(reason=CloseReason.SERVER_SHUTDOWN) if self._nodes.several:
                self._nodes.failed()
                await self._client.close()
            case wire.Closed(reason=reason):
                await self._finish(reason)
        for callback in self._callbacks.get(type(event), []):
            self._call(callback, event)

    def _share(self, finding: Finding) -> None:
        for findings in self._findings:
            findings.push(finding)
        if isinstance(finding, Caption):
            for captions in self._captions:
                captions.push(finding)

    def _follow_mute(self, track_id: str, muted: bool) -> None:
        for publication in self._publications:
            if publication.track_id == track_id:
                publication.muted = muted

    def _call(self, callback: Callable[[Any], None], value: object) -> None:
        """A caller's mistake must not end the bot: it is counted, and logged without the values, which are personal."""
        try:
            callback(value)
        except Exception as error:
            self.callback_errors += 1
            _log.error("bot_callback_failed", callback=repr(callback), error=type(error).__name__)

    async def _come_back(self) -> None:
        """Resume with the session key; join anew if that is refused; give up after 30 s."""
        deadline = time.monotonic() + RESUME_WINDOW_S
        wait_s = FIRST_RETRY_S
        longest_s = LONGEST_RETRY_AMONG_S if self._nodes.several else LONGEST_RETRY_S
        while True:
            await self._use_node()
            join = self._join.model_copy(
                update={"session_key": self._session_key, "fresh_transports": not self._media_works()}
            )
            try:
                await self._enter(join)
                return
            except BotError as error:
                if error.code is ErrorCode.RESUME_REFUSED:
                    self._session_key = None
                elif not error.retryable:
                    await self._finish(CloseReason.CONNECTION_LOST)
                    return
                else:
                    self._nodes.failed()
            if time.monotonic() + wait_s > deadline:
                await self._finish(CloseReason.CONNECTION_LOST)
                return
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, longest_s)

    async def _finish(self, reason: CloseReason) -> None:
        if self._state is BotState.CLOSED:
            return
        self._set_state(BotState.CLOSED)
        self.close_reason = reason
        await self._close_media()
        await self._client.close()
        for findings in self._findings:
            findings.close()
        for captions in self._captions:
            captions.close()
        self._closed.set()
