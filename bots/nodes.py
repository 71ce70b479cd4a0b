"""Which server to ask: the one that we were sent to, or, when that cannot be reached, the others in turn."""


class Nodes:
    """The servers of a meeting, as far as we were told."""

    def __init__(self, home: str) -> None:
        self.url = home
        """To be asked now."""
        self._home = home
        self._known = [home]

    @property
    def several(self) -> bool:
        """Whether there is anywhere else to go."""
        return len(self._known) > 1

    def joined(self, others: list[str]) -> None:
        """We are in at `url`, and these may go on with the room."""
        self._known = list(dict.fromkeys([self.url, *others, self._home]))

    def redirected(self, url: str) -> None:
        """The room is there. What was known stays known: that server may be the one that has just died."""
        self.url = url
        if url not in self._known:
            self._known.append(url)

    def moved(self, url: str | None) -> None:
        """The room went there (None: elsewhere)."""
        if url is None:
            self.failed()
        else:
            self.redirected(url)

    def failed(self) -> None:
        """The one asked now could not help: ask the next one."""
        self.url = self._known[(self._known.index(self.url) + 1) % len(self._known)]
