"""Our SDP: what we answer to a client that publishes, and what we offer to one that subscribes. Text in, text out.

- `description`: SDP text into blocks of attributes, bounded and strict (RFC 8866)
- `sections`: the types handed to the media plane, and the lines that all our m-sections share
- `answer`: the publish side, `parse_offer` and `answer`
- `offer`: the subscribe side, `SectionPool` and `parse_answer`
"""
