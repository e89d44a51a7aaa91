"""Makes the running process talk to a loopback Hub and undoes that: huggingface_hub reads its settings only once."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from loopback.process import UNSET, LoopbackHub


@dataclass
class Online:
    """What the `online` fixture hands to a test.

    Attributes:
        hub: The Hub.
        cache: The empty folder of huggingface_hub's cache.
        home: The folder that stands for HF_HOME.
        naps: Seconds of every wait between two tries, none of which was slept.
    """

    hub: LoopbackHub
    home: Path
    patch: pytest.MonkeyPatch
    naps: list[float] = field(default_factory=list)

    @property
    def cache(self) -> Path:
        return self.home / "hub"

    def login(self, token: str | None) -> None:
        """Be somebody else from now on; None: nobody."""
        if token is None:
            self.patch.delenv("HF_TOKEN", raising=False)
        else:
            self.patch.setenv("HF_TOKEN", token)

    def use_cache(self, folder: Path) -> None:
        """Go on with another cache, such as an empty one."""
        self.home = folder
        _set_folders(self.patch, folder)

    def offline(self, *, on: bool = True) -> None:
        """Cut the process off from the Hub by huggingface_hub's own switch, the cache stays."""
        _set_offline(self.patch, on=on)


class Clock:
    """The time module for one other module, except that nobody sleeps."""

    def __init__(self, naps: list[float]) -> None:
        self.naps = naps

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)


@contextmanager
def switched(hub: LoopbackHub, home: Path) -> Iterator[Online]:
    """Talk to `hub`, logged in with its write token, with everything cached below `home`, until the block ends."""
    from huggingface_hub import close_session

    for name in ("datasets.config", "transformers.utils.hub"):  # a later import would keep what is patched here
        importlib.import_module(name)
    close_session()
    with pytest.MonkeyPatch.context() as patch:
        online = Online(hub, home, patch)
        _set_environment(patch, hub, home)
        _set_endpoint(patch, hub.url)
        _set_folders(patch, home)
        _set_offline(patch, on=False)
        _set_rest(patch, online.naps)
        online.login(hub.tokens.write)
        yield online
        close_session()
    _forget()


def _set_environment(patch: pytest.MonkeyPatch, hub: LoopbackHub, home: Path) -> None:
    for name in UNSET:
        patch.delenv(name, raising=False)
    for name, value in hub.settings(home).items():
        patch.setenv(name, value)


def _set_endpoint(patch: pytest.MonkeyPatch, url: str) -> None:
    import datasets.config
    import transformers.utils.hub
    from huggingface_hub import constants, hf_api
    from huggingface_hub.utils import _git_credential, _http

    patch.setattr(constants, "ENDPOINT", url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_URL_HOSTS", constants.HF_URL_HOSTS | {str(urlsplit(url).hostname)})
    patch.setattr(hf_api.api, "endpoint", url)
    patch.setattr(transformers.utils.hub, "_hf_api", None)  # the one that it keeps knows an endpoint of before
    patch.setattr(_git_credential, "ENDPOINT", url)
    patch.setattr(_http, "_HUB_ORIGINS", _http._HUB_ORIGINS | {_http._url_origin(url)})
    patch.setattr(datasets.config, "HF_ENDPOINT", url)
    patch.setattr(datasets.config, "HUB_DATASETS_URL", url + "/datasets/{repo_id}/resolve/{revision}/{path}")


def _set_folders(patch: pytest.MonkeyPatch, home: Path) -> None:
    import datasets.config
    import transformers.utils.hub
    from huggingface_hub import constants
    from huggingface_hub.utils import _cache_assets, _cache_manager

    _forget()
    patch.setenv("HF_HOME", str(home))
    folders = {
        "HF_HOME": home,
        "HF_HUB_CACHE": home / "hub",
        "HUGGINGFACE_HUB_CACHE": home / "hub",
        "HF_ASSETS_CACHE": home / "assets",
        "HF_XET_CACHE": home / "xet",
        "HF_TOKEN_PATH": home / "token",
        "HF_STORED_TOKENS_PATH": home / "stored_tokens",
        "AGENT_HARNESSES_PATH": home / ".agent_harnesses.json",
    }
    for name, folder in folders.items():
        patch.setattr(constants, name, str(folder))
    patch.setattr(_cache_manager, "HF_HUB_CACHE", str(home / "hub"))
    patch.setattr(_cache_assets, "HF_ASSETS_CACHE", str(home / "assets"))
    patch.setattr(transformers.utils.hub, "HF_MODULES_CACHE", str(home / "modules"))
    patch.setattr(datasets.config, "HF_CACHE_HOME", str(home))
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", home / "datasets")
    patch.setattr(datasets.config, "HF_MODULES_CACHE", home / "modules")
    patch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", str(home / "datasets" / "downloads"))


def _set_offline(patch: pytest.MonkeyPatch, *, on: bool) -> None:
    import datasets.config
    from huggingface_hub import constants

    for module, name in (
        (constants, "HF_HUB_OFFLINE"),
        (datasets.config, "HF_HUB_OFFLINE"),
        (datasets.config, "HF_DATASETS_OFFLINE"),
    ):
        patch.setattr(module, name, on)


def _set_rest(patch: pytest.MonkeyPatch, naps: list[float]) -> None:
    from huggingface_hub import constants, file_download
    from huggingface_hub.utils import _detect_agent, _http

    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    patch.setattr(_detect_agent, "_registry", _detect_agent._EMPTY_REGISTRY)  # no request about agents
    for module in (_http, file_download):
        patch.setattr(module, "time", Clock(naps))


def _forget() -> None:
    """Drop what huggingface_hub remembers about the last endpoint."""
    from huggingface_hub import HfFileSystem, hf_api

    HfFileSystem.clear_instance_cache()
    hf_api.api._whoami_cache.clear()
