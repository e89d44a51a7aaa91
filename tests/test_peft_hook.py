from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_langcore import peft_hook
from hf_langcore.after_import import WaitingFinder

INSTALL = "import hf_langcore; from hf_langcore import peft_hook; peft_hook.install();"
CHECK = """
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils.peft_types import PeftType
assert PEFT_TYPE_TO_CONFIG_MAPPING[PeftType("CORE_REGION")].__name__ == "CoreRegionConfig"
assert [str(one.value) for one in PeftType].count("CORE_REGION") == 1
"""


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained adapter on a tiny saved model, made in a process of its own."""
    folder = tmp_path_factory.mktemp("hook")
    script = f"""
import torch
from peft import get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, AutoModelForCausalLM
from hf_langcore.tuner import CoreRegionConfig
config = LlamaConfig(vocab_size=31, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2)
LlamaForCausalLM(config).save_pretrained(r"{folder}/base")
base = AutoModelForCausalLM.from_pretrained(r"{folder}/base")
model = get_peft_model(base, CoreRegionConfig(method="random", r=2, init_weights=False, task_type="CAUSAL_LM"))
model.save_pretrained(r"{folder}/adapter")
torch.save(model(torch.arange(5)[None]).logits.detach(), r"{folder}/logits.pt")
"""
    _run(script)
    return folder


def _waiting() -> list[str]:
    return [finder.name for finder in sys.meta_path if isinstance(finder, WaitingFinder)]


def _run(script: str) -> str:
    environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_loads_nothing_heavy() -> None:
    """The hook alone brings in neither torch nor peft nor transformers."""
    script = (
        f"{INSTALL} import sys; print([n for n in ('torch', 'peft', 'transformers', 'numpy') if n in sys.modules])"
    )
    assert _run(script).strip() == "[]"


@pytest.mark.parametrize(
    "imports",
    [
        f"{INSTALL} import peft",
        f"import peft; {INSTALL}",
        f"{INSTALL} {INSTALL} import peft.tuners; peft_hook.install()",
        f"{INSTALL} import transformers.integrations.peft, peft, importlib; importlib.reload(peft)",
    ],
)
def test_the_method_is_there_in_any_order(imports: str, adapter: Path) -> None:
    """Whatever is imported first and how, PEFT loads the config of a saved adapter afterwards."""
    _run(f"""{imports}
from peft import PeftConfig
config = PeftConfig.from_pretrained(r"{adapter}/adapter")
assert type(config).__name__ == "CoreRegionConfig", config
{CHECK}""")


def test_transformers_loads_an_adapter_folder(adapter: Path) -> None:
    """AutoModelForCausalLM.from_pretrained(adapter) works with nothing but this package imported before."""
    _run(f"""{INSTALL}
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(r"{adapter}/adapter")
import torch
expected = torch.load(r"{adapter}/logits.pt")
torch.testing.assert_close(model(torch.arange(5)[None]).logits.detach(), expected)
""")


def test_peft_installed_halfway_through_its_import() -> None:
    """A hook that comes while PEFT is half imported breaks nothing and registers at the next import after it."""
    _run(f"""
import sys
class Intruder:
    def find_spec(self, name, path=None, target=None):
        if name == "peft.tuners":
            sys.meta_path.remove(self)
            from hf_langcore import peft_hook
            peft_hook.install()
sys.meta_path.insert(0, Intruder())
import peft
import wave  # any module that was not imported yet
{CHECK}
from hf_langcore.after_import import WaitingFinder
assert not any(isinstance(finder, WaitingFinder) and finder.name == "peft" for finder in sys.meta_path)
""")


def test_the_loader_leaves_no_trace() -> None:
    """After the import PEFT's spec has its own loader again and the finder is gone; resources still work."""
    _run(f"""{INSTALL}
import importlib.util
assert importlib.util.find_spec("peft").loader.get_filename("peft").endswith("__init__.py")
import peft, sys, importlib.resources, inspect
assert type(peft.__spec__.loader).__name__ == type(peft.__loader__).__name__ == "SourceFileLoader"
assert importlib.resources.files("peft").joinpath("__init__.py").is_file()
assert "PeftModel" in inspect.getsource(peft)
from hf_langcore.after_import import WaitingFinder
assert not any(isinstance(finder, WaitingFinder) and finder.name == "peft" for finder in sys.meta_path)
""")


def test_without_peft_nothing_happens() -> None:
    """Where PEFT is not installed, its import fails as it would without the hook, and so does looking for it."""
    _run(f"""
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "peft":
            raise ModuleNotFoundError("No module named 'peft'", name="peft")
sys.meta_path.insert(0, Hidden())
{INSTALL}
try:
    import peft
except ModuleNotFoundError as error:
    assert error.name == "peft"
else:
    raise AssertionError
""")


@pytest.fixture
def fake_peft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module called peft in the place of the real one, and no registration."""
    package = tmp_path / "peft"
    package.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    saved = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "peft"}
    for name in saved:
        monkeypatch.delitem(sys.modules, name)
    finders = list(sys.meta_path)
    yield package
    sys.meta_path[:] = finders
    for name in [name for name in sys.modules if name.split(".")[0] == "peft"]:
        del sys.modules[name]


def test_a_failed_import_of_peft_can_be_tried_again(fake_peft: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The finder stays until PEFT's own code has run through."""
    calls: list[int] = []
    monkeypatch.setattr(peft_hook, "_register", lambda: calls.append(1))
    (fake_peft / "__init__.py").write_text("raise ImportError('broken')")
    peft_hook.install()
    with pytest.raises(ImportError, match="broken"):
        importlib.import_module("peft")
    assert not calls
    (fake_peft / "__init__.py").write_text("value = 'longer than before'")
    importlib.invalidate_caches()
    assert importlib.import_module("peft").value == "longer than before"
    assert calls == [1]


def test_a_failed_registration_does_not_break_peft(fake_peft: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a PEFT that does not fit, `import peft` goes through and a warning says what is missing."""
    (fake_peft / "__init__.py").write_text("")
    monkeypatch.setattr(peft_hook, "_REGISTRATION", "hf_langcore.no_such_module")
    peft_hook.install()
    with pytest.warns(RuntimeWarning, match="could not register its method CORE_REGION"):
        importlib.import_module("peft")
    assert "peft" in sys.modules


def test_installing_twice_adds_one_finder(fake_peft: Path) -> None:
    """However often the package is reloaded, one finder waits."""
    peft_hook.install()
    peft_hook.install()
    assert [name for name in _waiting() if name == "peft"] == ["peft"]


def test_registration_with_the_real_peft_is_silent() -> None:
    """In this process PEFT is there; installing registers at once, without a warning."""
    importlib.import_module("peft")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        peft_hook.install()
    assert "peft" not in _waiting()


@pytest.mark.parametrize(
    "statement",
    [
        "from hf_langcore import CoreRegionConfig",
        "from hf_langcore.tuner import CoreRegionModel",
        "import hf_langcore.tuner.layer",
        "from hf_langcore.tuner.registration import register",
    ],
)
def test_the_tuner_may_be_what_imports_peft(statement: str) -> None:
    """Where the tuner is imported first and PEFT through it, the method is registered once and nothing warns."""
    code = f"import warnings\nwarnings.simplefilter('error', RuntimeWarning)\n{statement}\n{CHECK}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


TRAINERS = """
from transformers import PreTrainedModel, Trainer
from trl import SFTTrainer
from trl.trainer.base_trainer import _BaseTrainer
for owner, name in (
    (Trainer, "create_model_card"),
    (Trainer, "_push_from_checkpoint"),
    (_BaseTrainer, "create_model_card"),
    (PreTrainedModel, "_upload_modified_files"),
):
    method = vars(owner)[name]
    assert method.completes_cards and not hasattr(method.__wrapped__, "completes_cards"), (owner, name)
assert "create_model_card" not in vars(SFTTrainer)
"""


@pytest.mark.parametrize("first", [INSTALL, "import trl.trainer.base_trainer;"])
def test_trainers_are_extended_once_in_any_order(first: str) -> None:
    """Whatever is imported first, each method of a trainer is wrapped once."""
    _run(f"{first} {INSTALL} {TRAINERS}")


def test_a_trainer_that_does_not_fit_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trainer of another name costs a warning, not the import."""
    monkeypatch.setattr(peft_hook, "_EXTENDED", {"transformers.trainer": ("NoSuchTrainer", "complete_cards_of")})
    importlib.import_module("transformers.trainer")
    with pytest.warns(RuntimeWarning, match=r"could not extend transformers\.trainer\.NoSuchTrainer"):
        peft_hook.install()
