"""Chromium for the page tests: how it is started, what it may not say, and where pictures go."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright, expect

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--mute-audio",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--allow-loopback-in-peer-connection",
]
DESKTOP = (1280, 800)
PHONE = (390, 844)
SMALL_PHONE = (360, 640)
TIMEOUT_MS = 20_000
expect.set_options(timeout=TIMEOUT_MS)

needs_chromium = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium: apt-get install chromium")
needs_dist = pytest.mark.skipif(
    not (Path(__file__).resolve().parents[2] / "web" / "dist" / "index.html").exists(),
    reason="needs the built page: cd web && npm ci && npm run build",
)


@asynccontextmanager
async def chromium(film: Path | None = None, speech: Path | None = None) -> AsyncIterator[Browser]:
    """A browser with a fresh profile and fake devices; `film` (y4m) is what its camera sees, `speech` (WAVE) what it hears."""
    flags = FLAGS if film is None else [*FLAGS, f"--use-file-for-fake-video-capture={film}"]
    if speech is not None:
        flags = [*flags, f"--use-file-for-fake-audio-capture={speech}"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        try:
            yield browser
        finally:
            await browser.close()


def photographing() -> str:
    """The folder for pictures, empty if none are wanted."""
    return os.environ.get("SCREENSHOTS", "")


class Visit:
    """One page, and everything that went wrong in it."""

    def __init__(self, context: BrowserContext, page: Page) -> None:
        self.context = context
        self.page = page
        self.complaints: list[str] = []
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))

    def _on_console(self, message: ConsoleMessage) -> None:
        # A connection that a test cuts is reported by the browser itself; everything else is ours, CSP violations included.
        if message.type == "error" and "WebSocket connection" not in message.text:
            self.complaints.append(message.text)

    async def photograph(self, name: str) -> None:
        """Write `name`.png if `SCREENSHOTS` names a folder."""
        if folder := photographing():
            await self.page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled")


@asynccontextmanager
async def visit(
    browser: Browser, *, size: tuple[int, int] = DESKTOP, dark: bool = False, locale: str = "en-GB", script: str = ""
) -> AsyncIterator[Visit]:
    """A fresh context with one page; `script` runs before the page's own. Ends with the check that nothing complained."""
    width, height = size
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        locale=locale,
        reduced_motion="reduce",
        has_touch=width < 600,
    )
    if script:
        await context.add_init_script(script)
    visitor = Visit(context, await context.new_page())
    try:
        yield visitor
        assert not visitor.complaints, f"the page complained: {visitor.complaints}"
    finally:
        await context.close()
