"""A round trip through the real hf_xet, which keeps its objects in a folder where the Hub names one.

That hf_xet accepts a folder in place of a server is not documented: where it does not, these tests are skipped.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from loopback.process import LoopbackHub
from loopback.xet import objects_in

pytest.importorskip("hf_xet", reason="hf_xet is not installed")

UPLOAD = """
import sys
from huggingface_hub import HfApi, upload_file
if sys.argv[2]:
    upload_file(path_or_fileobj=sys.argv[1], path_in_repo=sys.argv[2], repo_id="ada/xet")
else:
    HfApi().upload_folder(folder_path=sys.argv[1], repo_id="ada/xet")
"""
DOWNLOAD = """
import hashlib, pathlib
from huggingface_hub import snapshot_download
for path in sorted(pathlib.Path(snapshot_download("ada/xet")).rglob("*.bin")):
    print(path.name, hashlib.sha256(path.read_bytes()).hexdigest())
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run_xet(loopback_hub: LoopbackHub, run_online: Run, tmp_path: Path) -> Run:
    """Run a script with xet switched on, once a first upload has shown that hf_xet can work in a folder."""
    store = tmp_path / "store"
    store.mkdir()
    loopback_hub.configure(xet_root=str(store))
    loopback_hub.create("ada/xet")
    (tmp_path / "probe.bin").write_bytes(b"\0probe")

    def run(script: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        variables = {"HF_HUB_DISABLE_XET": "0"}
        return run_online(script, *arguments, token=loopback_hub.tokens.write, check=check, environment=variables)

    probe = run(UPLOAD, str(tmp_path / "probe.bin"), "probe.bin", check=False)
    if probe.returncode or hashlib.sha256(b"\0probe").hexdigest() not in objects_in(str(store)):
        reason = (probe.stderr.strip().splitlines() or ["no shard tells of the file"])[-1]
        pytest.skip(f"this hf_xet does not take a folder in place of a server: {reason}")
    return run


def test_a_file_and_a_folder_go_through_xet(loopback_hub: LoopbackHub, run_xet: Run, tmp_path: Path) -> None:
    folder = tmp_path / "up"
    folder.mkdir()
    contents = {"large.bin": os.urandom(12 * 2**20), "small.bin": b"\0small"}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / "a.txt").write_text("regular")
    run_xet(UPLOAD, str(folder), "")
    run_xet(UPLOAD, str(folder / "large.bin"), "again.bin")
    expected = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    expected |= {"again.bin": expected["large.bin"], "probe.bin": hashlib.sha256(b"\0probe").hexdigest()}
    assert run_xet(DOWNLOAD).stdout.split() == [word for item in sorted(expected.items()) for word in item]
    assert loopback_hub.files("ada/xet")["a.txt"] == b"regular"
    assert not [entry for entry in loopback_hub.log() if entry["storage"] or entry["method"] == "PUT"]
    assert {entry["status"] for entry in loopback_hub.log("GET", "xet-write-token")} == {200}


def test_the_hub_knows_the_xet_hash_of_a_file(loopback_hub: LoopbackHub, run_xet: Run, tmp_path: Path) -> None:
    api = HfApi(endpoint=loopback_hub.url, token=loopback_hub.tokens.write)
    [stored] = objects_in(str(tmp_path / "store")).values()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        [entry] = api.get_paths_info("ada/xet", "probe.bin")
    assert (entry.xet_hash, entry.lfs.sha256, entry.size) == (stored.xet, stored.sha256, 6)
    assert len(stored.xet) == 64
    assert stored.xet != stored.sha256
