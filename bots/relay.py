"""Whether a TURN server lets somebody through: asks it for a relayed address, by aiortc's public interface."""

import asyncio

from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection

from signaling.protocol.messages import IceServer

TIMEOUT_S = 10.0


class RelayError(Exception):
    """It gave none."""


async def relayed_address(server: IceServer) -> str:
    """The address that the relay would use for us. Raises RelayError.

    aiortc asks the first address of `server` that it can speak to, and says nothing about why it got none.
    """
    asked = RTCIceServer(urls=server.urls, username=server.username, credential=server.credential)
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[asked]))
    try:
        connection.createDataChannel("relay")
        async with asyncio.timeout(TIMEOUT_S):
            await connection.setLocalDescription(await connection.createOffer())
    except (OSError, ValueError, TimeoutError) as error:
        raise RelayError(f"{type(error).__name__}: {error}") from error
    finally:
        await connection.close()
    for line in connection.localDescription.sdp.splitlines():
        fields = line.split()
        if line.startswith("a=candidate:") and fields[6:8] == ["typ", "relay"]:  # RFC 8839 section 5.1
            return f"{fields[4]}:{fields[5]}"
    raise RelayError("no relayed address was given")
