"""Fixtures of everything that talks to a Hub: a loopback Hub in its own process, and this process talking to it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from loopback.process import LoopbackHub
from loopback.switching import Clock, Online, switched

TIMEOUT = 240
"""Seconds that a child process may take; importing torch on a busy machine is most of it."""

UPLOADS = "ignore:Use 'content=:DeprecationWarning"
"""huggingface_hub 2.4 hands open files to httpx2 in a way that the latter is about to drop."""

RunOnline = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let every test of this folder upload large files."""
    item.add_marker(pytest.mark.filterwarnings(UPLOADS))


@pytest.fixture(scope="session")
def hub_process() -> Iterator[LoopbackHub]:
    """One process for all tests of a session; use `loopback_hub`, which is empty."""
    with LoopbackHub() as hub:
        yield hub


@pytest.fixture
def loopback_hub(hub_process: LoopbackHub) -> LoopbackHub:
    """A Hub without repositories, faults and history."""
    hub_process.reset()
    return hub_process


@pytest.fixture
def online(loopback_hub: LoopbackHub, tmp_path: Path) -> Iterator[Online]:
    """This process talks to the loopback Hub, logged in as `hub.user`, with an empty cache; waits between tries are
    recorded, not slept.
    """
    with switched(loopback_hub, tmp_path / "huggingface") as online:
        online.patch.setattr("hf_langcore.hub.access.time", Clock(online.naps))
        yield online


@pytest.fixture
def run_online(loopback_hub: LoopbackHub, tmp_path: Path) -> RunOnline:
    """Run a script in a fresh process with an empty cache (or `cache`), which must end with exit code 0 unless
    `check` is False; without `token` it is nobody; `environment` is added to its variables.
    """
    caches = iter(range(1000))

    def run(
        script: str,
        *arguments: str,
        token: str | None = None,
        cache: Path | None = None,
        check: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        home = cache or tmp_path / f"huggingface-{next(caches)}"
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            env={**loopback_hub.env(home, token), **(environment or {})},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert not check or done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run
