"""Which port the operator's is: told, off, or beside a node on any free port."""

import socket

import pytest

from candor.node import Node, node
from candor.settings import ConfigurationError, OperatorSettings, dump, load, restore


@pytest.mark.parametrize(("text", "port"), [("off", "off"), ("0", 0), ("9999", 9999)])
def test_the_port_can_be_told_or_be_off(monkeypatch: pytest.MonkeyPatch, text: str, port: int | str) -> None:
    monkeypatch.setenv("CANDOR_OPERATOR__PORT", text)
    settings = load()
    assert settings.operator.port == port
    assert restore(dump(settings, secrets=False).encode()).operator == settings.operator


@pytest.mark.parametrize("text", ["on", "-1", "70000"])
def test_anything_else_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("CANDOR_OPERATOR__PORT", text)
    with pytest.raises(ConfigurationError, match="operator"):
        load()


def test_it_listens_on_loopback_unless_told() -> None:
    assert OperatorSettings() == OperatorSettings(host="127.0.0.1", port=9464)


async def _operator_port(monkeypatch: pytest.MonkeyPatch, arguments: dict[str, dict[str, object]]) -> int | str:
    """What a node would listen on; it is not started."""
    started: list[Node] = []

    async def start(self: Node) -> None:
        started.append(self)

    async def ready(self: Node) -> None:
        """At once."""

    monkeypatch.setattr(Node, "start", start)
    monkeypatch.setattr(Node, "ready", ready)
    async with node(load(arguments=arguments)):
        return started[0].settings.operator.port


async def test_a_node_on_any_free_port_takes_any_for_its_operator_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await _operator_port(monkeypatch, {"signaling": {"port": 0}}) == 0
    assert await _operator_port(monkeypatch, {"signaling": {"port": 0}, "operator": {"port": "off"}}) == "off"
    assert await _operator_port(monkeypatch, {"signaling": {"port": 0}, "operator": {"port": 9464}}) == 9464


async def test_a_port_that_is_taken_is_said_with_the_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match="--operator-port"):
            async with node(load(arguments={"signaling": {"port": 0}, "operator": {"port": port}})):
                raise AssertionError("it must not start")
