"""What the server says of a bot's own media: the receiver reports that it sends back (RFC 3550 section 6.4.2)."""

from bots.bot import MeetingBot


async def acknowledged(bot: MeetingBot) -> int:
    """How many packets of what `bot` publishes the server says it has; 0 before its first report. Raises BotError if it left."""
    report = await bot._publisher().connection.getStats()
    return sum(int(stat.packetsReceived) for stat in report.values() if stat.type == "remote-inbound-rtp")
