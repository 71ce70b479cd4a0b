"""How processes of one node talk: msgpack frames over a Unix socket, requests down, notifications up."""

from sfu.channel.link import Channel, ChannelClosedError, ChannelError, connect, pair, serve

__all__ = ["Channel", "ChannelClosedError", "ChannelError", "connect", "pair", "serve"]
