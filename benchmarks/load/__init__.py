"""The load: WebRTC clients made of plain sockets, independent of the server's own connection code; see ../README.md."""
