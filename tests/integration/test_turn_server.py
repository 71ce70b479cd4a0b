"""Our coturn, Debian's with the configuration that we ship, in a network of its own."""

from pathlib import Path

from tests.integration.turn_kit import needs_coturn, needs_network, run_inside


@needs_coturn
@needs_network
def test_our_relay_leads_to_the_media_workers_and_nowhere_else() -> None:
    run_inside(Path(__file__).with_name("turn_scene.py"), 110)
