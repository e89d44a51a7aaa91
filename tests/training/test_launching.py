"""Several processes through accelerate: the shipped configurations, and what is refused before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from hf_langcore.errors import ConfigurationError
from hf_langcore.training import launching
from hf_langcore.training.job import require_real_sharding
from hf_langcore.training.launching import LaunchError, config_file, launch, shipped_configs

_KINDS = {
    "fsdp2": "FSDP",
    "multi_cpu": "MULTI_GPU",
    "multi_gpu": "MULTI_GPU",
    "single_gpu": "NO",
    "zero2": "DEEPSPEED",
    "zero3": "DEEPSPEED",
}
_PROGRAM = """
import os, sys
from pathlib import Path
import torch.distributed
torch.distributed.init_process_group("gloo")
name = f"{os.environ['RANK']} of {torch.distributed.get_world_size()} {os.environ['ACCELERATE_USE_CPU']}"
Path(sys.argv[1], name).write_text("")
torch.distributed.destroy_process_group()
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend that there are so many."""

    def pretend(count: int) -> None:
        monkeypatch.setattr("torch.accelerator.is_available", lambda: count > 0)
        monkeypatch.setattr("torch.accelerator.device_count", lambda: count)

    return pretend


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What accelerate would be asked to start."""
    calls: list[Any] = []
    monkeypatch.setattr(launching, "launch_command", calls.append)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")  # launch may set it
    return calls


@pytest.mark.parametrize("name", list(_KINDS))
def test_accelerate_takes_the_shipped_configurations(name: str) -> None:
    """No field is unknown to it, and each means what its name says."""
    settings = load_config_from_file(str(config_file(name)))
    assert settings.distributed_type == _KINDS[name]
    assert settings.use_cpu == (name == "multi_cpu")
    words = ["--config_file", str(config_file(name)), "--num_processes", "3", "script.py"]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    assert args.num_processes == 3
    assert (args.use_fsdp, args.use_deepspeed) == (name == "fsdp2", name.startswith("zero"))
    if args.use_fsdp:
        assert int(args.fsdp_version) == 2
    if args.use_deepspeed:
        assert args.zero_stage == int(name[-1])


def test_names_and_files(tmp_path: Path) -> None:
    """All are listed; a file of one's own works too; a wrong name gets the nearest."""
    assert shipped_configs() == sorted(_KINDS)
    mine = tmp_path / "mine.yaml"
    mine.write_text("distributed_type: 'NO'\n")
    assert config_file(str(mine)) == mine
    with pytest.raises(ConfigurationError, match=r"neither a file nor one of fsdp2.*Did you mean fsdp2"):
        config_file("fsdp")


def test_what_is_started(gpus: Any, started: list[Any]) -> None:
    """The module with its words, in as many processes as are asked for."""
    gpus(4)
    launch("hf_langcore", ["sft", "--config", "run.yaml"], config="fsdp2", num_processes=4, port=1234)
    (args,) = started
    assert (args.training_script, args.training_script_args) == ("hf_langcore", ["sft", "--config", "run.yaml"])
    assert (args.module, args.num_processes, args.main_process_port) == (True, 4, 1234)
    assert args.config_file == str(config_file("fsdp2"))


@pytest.mark.parametrize("name", ["fsdp2", "own"])
def test_fsdp_on_cpus_is_refused(name: str, gpus: Any, started: list[Any], tmp_path: Path) -> None:
    """Accelerate would silently run DDP: without GPUs, or where the file asks for CPUs beside them."""
    own = {**yaml.safe_load(config_file("fsdp2").read_text()), "use_cpu": True}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    gpus(0 if name == "fsdp2" else 2)
    with pytest.raises(ConfigurationError, match=r"silently run.*DDP"):
        launch("hf_langcore", [], config="fsdp2" if name == "fsdp2" else str(tmp_path / "own.yaml"))
    assert not started


@pytest.mark.parametrize("name", ["multi_gpu", "zero3"])
def test_more_processes_than_gpus(name: str, gpus: Any, started: list[Any]) -> None:
    """The numbers, and the way out."""
    gpus(1)
    with pytest.raises(ConfigurationError, match=r"2 processes.*1 GPUs.*multi_cpu"):
        launch("hf_langcore", [], config=name)
    launch("hf_langcore", [], config=name, num_processes=1)
    assert len(started) == 1


def test_no_configuration(tmp_path: Path, started: list[Any]) -> None:
    """A file of something else."""
    (tmp_path / "run.yaml").write_text("learning_rate: 1\n")
    with pytest.raises(ConfigurationError, match="no configuration of accelerate"):
        launch("hf_langcore", [], config=str(tmp_path / "run.yaml"))
    assert not started


def test_inside_the_processes(monkeypatch: pytest.MonkeyPatch, plain_args: Any) -> None:
    """Where accelerate was started by hand, the run itself refuses FSDP on a CPU."""
    require_real_sharding(plain_args())
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigurationError, match=r"silently runs.*DDP"):
        require_real_sharding(plain_args())


def test_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For real, on CPUs; a process that fails ends the run with one error."""
    (tmp_path / "program.py").write_text(_PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")
    launch("program", [str(tmp_path), "0"], config="multi_cpu")
    assert sorted(path.name for path in tmp_path.glob("* of *")) == ["0 of 2 true", "1 of 2 true"]
    with pytest.raises(LaunchError, match="failed"):
        launch("program", [str(tmp_path), "3"], config="multi_cpu", num_processes=1)
