"""RTP and RTCP wire formats: pure functions and small state machines, bytes in, bytes out.

No clock (time is an argument, in nanoseconds unless the name says otherwise), no socket, no logging. Parsers check every bound
and raise ValueError naming the field; whoever owns the socket counts it. One module per standard:

- `header`: the RTP fixed header and header extensions (RFC 3550 section 5.1, RFC 8285), sequence arithmetic
- `extensions`: what header extensions are called and what two of them hold
- `vp8`, `vp9`, `h264`, `av1`, `opus`: what forwarding and processing need from a payload, never its pictures or sound
- `rtcp`: compound packets, reports, SDES, PLI, FIR; `nack`, `remb`, `twcc`: the three feedback formats of their own
- `reception`: per SSRC, which packets are new, and what a receiver report says about them
"""
