"""What the watch host and the video host tell Prometheus: what they count, under names of processors and nobody else's."""

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from media_processors.findings import ProcessorInfo, ProcessorStatus
from media_processors.ladder import RUNGS
from media_processors.metrics import VideoMetrics, WatchMetrics
from media_processors.observing import WatchCounters
from media_processors.video.deriving import DeriveCounters


def told(page: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def info(name: str, available: bool = True) -> ProcessorInfo:
    return ProcessorInfo(name=name, kind="observer", media="audio", available=available)


def status(track: int, processor: str, state: str) -> ProcessorStatus:
    return ProcessorStatus.model_validate({"track_id": f"t_{track}", "processor": processor, "state": state})


def test_the_watch_host_tells_what_it_counts() -> None:
    counters = WatchCounters(dropped=1, stale=2, malformed=3, broken=4, deaf=5, lag_ms=250, sheds=6, shed_rungs=2)
    counters.frames["prosody"] = 50
    counters.seeing.frames, counters.seeing.undecodable = 20, 3
    counters.listening.skipped = 7
    statuses = [status(1, "prosody", "on"), status(2, "prosody", "on"), status(1, "captions", "unavailable")]
    infos = [info("prosody"), info("captions", available=False)]
    metrics = WatchMetrics(CollectorRegistry(), counters, lambda: infos, lambda: statuses, lambda: 8)
    metrics.findings.labels("caption").inc()
    page = metrics.page()
    samples = told(page)
    assert samples["candor_processor_available", "prosody"] == 1
    assert samples["candor_processor_available", "captions"] == 0
    assert samples["candor_processor_tracks", "on", "prosody"] == 2
    assert samples["candor_processor_tracks", "captions", "unavailable"] == 1
    assert samples["candor_processor_tracks", "captions", "on"] == 0
    assert samples["candor_processor_frames_total", "prosody"] == 50
    assert samples["candor_host_dropped_packets_total", "any", "old_epoch"] == 2
    assert samples["candor_host_dropped_packets_total", "audio", "lost"] == 7
    assert samples["candor_host_frames_total", "decoded"] == 17
    assert samples["candor_watch_lag_seconds", "audio"] == 0.25
    assert [samples["candor_ladder_shed", rung] for rung in RUNGS[:3]] == [1, 1, 0]
    assert samples["candor_ladder_sheds_total",] == 6
    assert samples["candor_missed_answers_total",] == 8
    assert samples["candor_processor_failures_total",] == 9
    assert samples["candor_findings_total", "caption"] == 1
    assert samples["candor_findings_total", "prosody"] == 0
    assert "t_1" not in page


def test_the_video_host_tells_what_became_of_pictures() -> None:
    counters = DeriveCounters(dropped=1, replaced=2, left_out=3, made=4, refused=5, given_up=6, failed=7)
    metrics = VideoMetrics(CollectorRegistry(), counters, lambda: [info("watermark")], list)
    metrics.lag.observe(0.2)
    samples = told(metrics.page())
    outcomes = {
        outcome: samples["candor_derived_pictures_total", outcome] for outcome in ("made", "replaced", "refused")
    }
    assert outcomes == {"made": 4, "replaced": 2, "refused": 5}
    assert samples["candor_derived_given_up_total",] == 6
    assert samples["candor_processor_failures_total",] == 7
    assert samples["candor_processor_tracks", "on", "watermark"] == 0
    assert samples["candor_event_loop_lag_seconds_bucket", "0.1"] == 0
    assert samples["candor_event_loop_lag_seconds_bucket", "0.25"] == 1
