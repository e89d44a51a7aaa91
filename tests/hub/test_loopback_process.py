"""The process of the loopback Hub, its log, and the switch that makes this process talk to it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import datasets.config
import pytest
from huggingface_hub import HfApi, constants, hf_api, hf_hub_download
from huggingface_hub.utils import _http
from loopback.process import ROOT, LoopbackHub
from loopback.switching import Online, switched

DOWNLOAD = """
import os, sys
from huggingface_hub import constants, get_token, hf_hub_download
print(open(hf_hub_download(sys.argv[1], "a.txt")).read())
print(constants.ENDPOINT, constants.HF_HUB_CACHE.startswith(os.environ["HF_HOME"]), get_token())
"""


def settings() -> dict[str, Any]:
    """Everything that the switch may touch."""
    modules = {"constants": constants, "config": datasets.config, "http": _http}
    values = {f"{place}.{name}": value for place, module in modules.items() for name, value in vars(module).items()}
    del values["http._GLOBAL_CLIENT"]
    return {**values, "endpoint": hf_api.api.endpoint, "environment": dict(os.environ)}


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z" if Path("/proc").exists() else True


def test_nothing_stays_switched(loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    import transformers.utils.hub  # noqa: F401, its import sets nothing later

    before = settings()
    assert before["constants.HF_HUB_OFFLINE"]
    with switched(loopback_hub, tmp_path) as online:
        assert HfApi().endpoint == constants.ENDPOINT == loopback_hub.url
        assert str(online.cache) == constants.HF_HUB_CACHE
        online.hub.create("ada/a", files={"a.txt": "1"})
        hf_hub_download("ada/a", "a.txt")
        assert _http._GLOBAL_CLIENT is not None
        online.offline()
        online.use_cache(tmp_path / "other")
    assert settings() == before
    assert _http._GLOBAL_CLIENT is None
    with pytest.raises(KeyError, match="inside"), switched(loopback_hub, tmp_path):
        raise KeyError("inside")
    assert settings() == before
    with pytest.raises(Exception, match="offline mode"):
        HfApi().model_info("ada/a")


def test_a_fresh_process_starts_with_an_empty_cache(
    loopback_hub: LoopbackHub, run_online: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    loopback_hub.create("ada/secret", private=True, files={"a.txt": "words"})
    token = loopback_hub.tokens.write
    for _ in range(2):
        done = run_online(DOWNLOAD, "ada/secret", token=token)
        assert done.stdout.split() == ["words", loopback_hub.url, "True", token]
    assert [entry["path"] for entry in loopback_hub.log("GET", "/ada/secret")] == [
        "/ada/secret/resolve/main/a.txt"
    ] * 2
    for _ in range(2):
        run_online(DOWNLOAD, "ada/secret", token=token, cache=tmp_path / "kept")
    assert len(loopback_hub.log("GET", "/ada/secret")) == 3
    with pytest.raises(AssertionError, match="RepositoryNotFoundError"):
        run_online(DOWNLOAD, "ada/secret")
    assert run_online(DOWNLOAD, "ada/secret", check=False).returncode == 1


def test_the_log_says_who_asked_what_and_how_it_ended(online: Online) -> None:
    online.hub.create("ada/log", files={"a.txt": "1"})
    api = HfApi(library_name="hf_langcore", library_version="9.9", token=online.hub.tokens.read)
    api.model_info("ada/log", files_metadata=True)
    [entry] = online.hub.log()
    assert (entry["method"], entry["path"], entry["query"]) == ("GET", "/api/models/ada/log", "blobs=true")
    assert (entry["token"], entry["user"], entry["status"], entry["storage"]) == (True, "ada", 200, False)
    assert "hf_langcore/9.9" in entry["agent"]
    assert online.hub.tokens.read not in str(online.hub.log())


def test_a_reset_leaves_nothing(loopback_hub: LoopbackHub) -> None:
    loopback_hub.create("ada/a", files={"b.bin": b"\0"})
    loopback_hub.fault("status", times=None)
    loopback_hub.configure(page_size=1)
    loopback_hub.reset()
    assert (loopback_hub.repos(), loopback_hub.log(), loopback_hub.calm()) == ([], [], 0)
    with pytest.raises(ValueError, match="No model is called ada/a"):
        loopback_hub.files("ada/a")


def test_the_back_door_is_locked(loopback_hub: LoopbackHub) -> None:
    for secret in ("", "x" * 32):
        connection = HTTPConnection("127.0.0.1", loopback_hub.port)
        connection.request("POST", "/_control/log", "{}", {"X-Control-Secret": secret})
        assert connection.getresponse().status == 403
        connection.close()
    with pytest.raises(ValueError, match="No kind of fault"):
        loopback_hub.fault("flood")
    with pytest.raises(ValueError, match="unexpected keyword"):
        loopback_hub.fault("status", tmies=3)
    with pytest.raises(ValueError, match="no setting"):
        loopback_hub.configure(pages=3)


def test_a_hub_of_its_own_ends_with_its_block(tmp_path: Path) -> None:
    with LoopbackHub() as first, LoopbackHub() as second:
        first.create("ada/a")
        assert second.repos() == []
        assert first.tokens.write != second.tokens.write
        assert first.tokens.write not in repr(first.tokens)
    assert not running(first.process.pid)
    assert first.process.returncode == 0


def test_a_hub_does_not_outlive_its_parent() -> None:
    script = (
        "import os, sys\nfrom loopback.process import LoopbackHub\n"
        "print(LoopbackHub().process.pid, flush=True)\nos.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False
    )
    pid = int(done.stdout)
    for _ in range(200):
        if not running(pid):
            break
        time.sleep(0.05)
    assert not running(pid)
