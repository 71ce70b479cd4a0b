"""When a machine must let go of its rooms, and what a cluster needs in its settings."""

import pytest
from pydantic import ValidationError

from signaling.cluster.lease import Lease
from signaling.cluster.settings import ClusterSettings, prepared_cluster
from signaling.settings import SignalingSettings

URL = "redis://:redis-password@redis.test:6379/0"


def test_who_is_cut_off_stops_a_quarter_before_the_lease_ends() -> None:
    lease = Lease(4.0)
    lease.renewed(104.0)
    assert lease.doubt(101.0) == 103.0
    assert lease.doubt(102.0) == 103.0, "to hear it again gives no more time"
    lease.renewed(108.0)
    assert lease.doubt(106.0) == 107.0


def test_when_redis_is_back_for_others_only_half_a_lease_is_left() -> None:
    lease = Lease(4.0)
    lease.renewed(104.0)
    lease.for_nobody()
    assert lease.doubt(200.0) == 202.0
    lease.for_nobody()
    assert lease.doubt(300.0) == 302.0


def test_who_never_had_a_lease_does_not_wait_for_its_end() -> None:
    assert Lease(4.0).doubt(10.0) == 12.0


def test_alone_there_is_nothing_to_prepare() -> None:
    settings = ClusterSettings()
    assert prepared_cluster(settings, SignalingSettings()) is settings


def test_every_start_of_a_machine_is_another_one() -> None:
    signaling = SignalingSettings(public_url="https://a.test")
    wanted = ClusterSettings.model_validate({"redis_url": URL})
    first, second = prepared_cluster(wanted, signaling), prepared_cluster(wanted, signaling)
    assert first.node_id != second.node_id and first.incarnation != second.incarnation
    named = prepared_cluster(wanted.model_copy(update={"node_id": "a"}), signaling)
    assert named.node_id == "a"


def test_other_machines_must_be_able_to_send_clients_here() -> None:
    wanted = ClusterSettings.model_validate({"redis_url": URL})
    with pytest.raises(ValueError, match="public_url"):
        prepared_cluster(wanted, SignalingSettings())
    with pytest.raises(ValueError, match="secret"):
        prepared_cluster(wanted, SignalingSettings(public_url="https://a.test", lan=True))


@pytest.mark.parametrize("bad", [{"redis_url": "http://x"}, {"lease_s": 0.5}, {"node_id": "a b"}, {"redis": URL}])
def test_field_rules(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ClusterSettings.model_validate(bad)


def test_the_password_is_not_shown() -> None:
    settings = ClusterSettings.model_validate({"redis_url": URL})
    assert "redis-password" not in repr(settings) + settings.model_dump_json()
