"""A browser that reaches nothing but our relay takes part in a meeting all the same, over UDP and over TCP."""

from pathlib import Path

import pytest

from tests.e2e.pages import needs_chromium, needs_dist
from tests.integration.turn_kit import needs_coturn, needs_network, run_inside

pytestmark = [pytest.mark.chromium, needs_chromium, needs_dist, needs_coturn, needs_network, pytest.mark.timeout(300)]


def test_a_browser_takes_part_through_our_relay() -> None:
    run_inside(Path(__file__).with_name("relay_scene.py"), 280)
