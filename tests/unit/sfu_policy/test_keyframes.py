"""Key frame requests: aggregated, throttled, repeated, given up."""

from sfu.keyframes import MAX_REPEATS, KeyframeRequests

MS = 1_000_000


def test_many_wishes_are_one_request() -> None:
    requests: KeyframeRequests[str] = KeyframeRequests()
    for _ in range(10):
        requests.want("a", 0)
    requests.want("b", 0)
    assert requests.due(0) == ["a", "b"]
    assert requests.due(0) == []


def test_a_wish_soon_after_a_request_is_sent_when_300_ms_are_over() -> None:
    requests: KeyframeRequests[str] = KeyframeRequests()
    requests.want("a", 0)
    assert requests.due(0) == ["a"]
    requests.arrived("a")
    requests.want("a", 50 * MS)
    assert requests.due(299 * MS) == []
    assert requests.due(300 * MS) == ["a"]


def test_a_request_is_repeated_every_500_ms_until_the_key_frame_comes() -> None:
    requests: KeyframeRequests[str] = KeyframeRequests()
    requests.want("a", 0)
    sent = [at for at in range(0, 2000, 20) if requests.due(at * MS)]
    assert sent == [0, 500, 1000, 1500]
    requests.arrived("a")
    assert [at for at in range(2000, 5000, 20) if requests.due(at * MS)] == []


def test_a_source_that_does_not_answer_is_left_alone_for_5_s() -> None:
    requests: KeyframeRequests[str] = KeyframeRequests()
    sent = []
    for at in range(0, 12_000, 20):
        requests.want("a", at * MS)
        sent += [at] * len(requests.due(at * MS))
    assert sent[:MAX_REPEATS] == [500 * count for count in range(MAX_REPEATS)]
    assert requests.gave_up == 1
    assert sent[MAX_REPEATS] == 5000 + 5000
    assert len(sent) == MAX_REPEATS + 4


def test_one_source_does_not_throttle_another() -> None:
    requests: KeyframeRequests[str] = KeyframeRequests()
    requests.want("a", 0)
    requests.due(0)
    requests.want("b", 10 * MS)
    assert requests.due(10 * MS) == ["b"]


def test_unknown_and_forgotten_sources() -> None:
    requests: KeyframeRequests[str] = KeyframeRequests()
    requests.arrived("a")
    requests.forget("a")
    requests.want("a", 0)
    requests.forget("a")
    assert requests.due(0) == []
