"""Whether this machine's rooms are still its own while Redis does not say so."""

NEVER = float("-inf")


class Lease:
    """What is known of the machine's lease. Times are seconds of the loop's clock.

    A machine that cannot renew its lease because it is cut off stops before the lease ends, for then somebody else begins. One
    that has learned that Redis is gone for everybody goes on, for nobody can begin. When Redis is back for others only, they
    wait for one lease before they take what seems abandoned; so half of one may be spent on being found by it, too.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._held_until_s = NEVER
        self._doubted_s: float | None = None

    def renewed(self, until_s: float) -> None:
        """It holds at least until then."""
        self._held_until_s = until_s
        self._doubted_s = None

    def for_nobody(self) -> None:
        """Nobody can take our rooms now."""
        self._doubted_s = None

    def doubt(self, now_s: float) -> float:
        """Others may be able to take our rooms: when we must have stopped."""
        if self._doubted_s is None:
            self._doubted_s = now_s
        if self._doubted_s < self._held_until_s:
            return self._held_until_s - self._lease_s / 4
        return self._doubted_s + self._lease_s / 2
