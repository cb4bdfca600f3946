"""A real headless Chromium that reaches nothing but this machine, and what its pages ask for and complain of."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Page, sync_playwright

HOME = ("file:", "data:", "blob:", "about:", "http://127.0.0.1:", "http://localhost:")
"""What begins the address of something on this machine."""


@dataclass
class Seen:
    """Addresses that a page asked for, and what it logged as errors, script errors among them."""

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def abroad(self) -> list[str]:
        """Addresses of other machines."""
        return [url for url in self.requests if not url.startswith(HOME)]


@contextmanager
def browsing(**options: Any) -> Iterator[tuple[Page, Seen]]:
    """Yield an empty page and what is seen of it; `options` are those of a context, such as ``color_scheme="dark"``."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program is not None, "Chromium is not installed"
    words = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=program, args=words)
        page, seen = browser.new_context(**options).new_page(), Seen()
        page.on("request", lambda request: seen.requests.append(request.url))
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("console", lambda said: seen.errors.append(said.text) if said.type == "error" else None)
        try:
            yield page, seen
        finally:
            browser.close()
