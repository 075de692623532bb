# SPDX-License-Identifier: Apache-2.0
"""JupyterLab on the loopback, and a real browser that looks at it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright

from tests.conftest import ROOT, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page, Route

FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --disable-default-apps --disable-extensions"""

READY = """() => {
  const context = window.jupyterapp?.shell?.currentWidget?.sessionContext;
  const kernel = context?.session?.kernel;
  return context?.isReady && kernel?.connectionStatus === "connected" && kernel.status === "idle";
}"""
RUN_ALL = "() => { void window.jupyterapp.commands.execute('notebook:run-all-cells'); }"


class Lab:
    """A server with the project's notebooks; everything that it writes is in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.root, self._log = folder / "root", folder / "log"
        for name in ("notebooks", "docs/examples", "docs/images"):
            shutil.copytree(ROOT / name, self.root / name)
        settings = folder / "settings/@jupyterlab/apputils-extension"
        settings.mkdir(parents=True)
        quiet = {"fetchNews": "false", "checkForUpdates": False}
        (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
        self.token = secrets.token_hex(16)
        self._runtime = folder / "runtime"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
                    *("--ip=127.0.0.1", "--port=0", f"--ServerApp.root_dir={self.root}"),
                    *("--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"),
                    *("--LabApp.news_url=None", "--LabApp.collaborative=False"),
                    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
                ],
                env=self._environment(folder),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _environment(self, folder: Path) -> dict[str, str]:
        places = {
            "JUPYTER_CONFIG_DIR": folder / "config",
            "JUPYTER_DATA_DIR": folder / "data",
            "JUPYTER_RUNTIME_DIR": self._runtime,
            "JUPYTERLAB_SETTINGS_DIR": folder / "settings",
            "JUPYTERLAB_WORKSPACES_DIR": folder / "workspaces",
            "IPYTHONDIR": folder / "ipython",
        }
        return (
            os.environ
            | {name: str(place) for name, place in places.items()}
            | {
                "JUPYTER_TOKEN": self.token,
                "PYTHONPATH": str(ROOT),
            }
        )

    def url(self) -> str:
        """Wait until it listens."""

        def told():
            assert self.process.poll() is None, self._log.read_text()
            files = list(self._runtime.glob("jpserver-*.json"))
            try:
                return files and json.loads(files[0].read_text())["url"]
            except json.JSONDecodeError:
                return None  # it is being written

        return eventually(told, 60)

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Browser:
    """Headless Chromium that is let to one server only; what else it asked for is in `outside`."""

    def __init__(self, page: Page, server: str) -> None:
        self.page, self._server = page, urlsplit(server).netloc
        self.outside: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(60_000)
        page.route("**/*", self._route)
        page.on(
            "console",
            lambda said: self.complaints.append(said.text) if said.type == "error" else None,
        )

    def _route(self, route: Route) -> None:
        parts = urlsplit(route.request.url)
        if parts.netloc == self._server or parts.scheme in ("data", "blob"):
            route.continue_()
        else:
            self.outside.append(route.request.url)
            route.abort()

    def open(self, notebook: str, token: str) -> None:
        self.page.goto(f"http://{self._server}/lab/tree/{notebook}?token={token}")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        self.page.wait_for_function(READY)

    def run_all(self) -> None:
        # Its promise is not waited for: the page must stay free to show what comes.
        self.page.evaluate(RUN_ALL)


@contextmanager
def browser(server: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=FLAGS.split()
        )
        try:
            yield Browser(chromium.new_page(viewport={"width": 1200, "height": 900}), server)
        finally:
            chromium.close()
