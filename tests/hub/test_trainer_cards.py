"""Cards of adapters and fine-tuned models after every kind of push: ours survives, theirs too, in one commit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from card_checks import check_card
from card_models import BASE, BASE_SHA, files_in, mask_of, rows, save_base, tiny_llama
from huggingface_hub import ModelCard
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from trl import SFTConfig, SFTTrainer

from hf_langcore.hub.references import read_reference
from hf_langcore.hub.sections import MARKS
from hf_langcore.masks import CoreMask
from hf_langcore.masks.origin import HubOrigin
from hf_langcore.training import AnchorCallback, CoreFreezeCallback, CoreRegionSFTConfig, CoreRegionSFTTrainer
from hf_langcore.tuner import CoreRegionConfig

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

SHA = "c" * 40
STEP: dict[str, Any] = {"max_steps": 1, "per_device_train_batch_size": 1, "use_cpu": True, "report_to": []}
TRL_STEP: dict[str, Any] = {**STEP, "bf16": False, "gradient_checkpointing": False}


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CI", "1")  # TRL sends no telemetry
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def mask() -> CoreMask:
    """A mask that came from the Hub."""
    return mask_of(tiny_llama()).with_origin(HubOrigin("me/mask", SHA))


@pytest.fixture
def base(tmp_path: Path) -> str:
    return str(save_base(tmp_path / "base"))


@pytest.fixture
def adapted(base: str, mask: CoreMask) -> Any:
    config = CoreRegionConfig(core_mask=mask, r=2, task_type="CAUSAL_LM")
    return get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)


@pytest.fixture
def pushed(online: Any, mask: CoreMask, tmp_path: Path) -> Callable[..., str]:
    """Checks what every pushed card has to say, and hands back its content."""

    def check(name: str, *, library: str, commits: int, reference: bool = True) -> str:
        repo_id = f"{online.hub.user}/{name}"
        files = online.hub.files(repo_id)
        content: str = files["README.md"].decode()
        card = check_card(content, private=tmp_path)
        assert (card.data.library_name, card.data.base_model) == (library, BASE)
        assert {"core-region"} <= set(card.data.tags)
        section = MARKS.of(content)
        assert section is not None
        for words in (
            mask.digest(),
            f"`me/mask`](https://huggingface.co/me/mask/tree/{SHA})",
            BASE_SHA,
            f'"{repo_id}"',
        ):
            assert words in section
        if reference:
            (tmp_path / "read").mkdir(exist_ok=True)
            (tmp_path / "read" / "core_mask_ref.json").write_bytes(files["core_mask_ref.json"])
            read_reference(tmp_path / "read").require_same(mask)
        titles = [commit["title"] for commit in online.hub.commits(repo_id)]
        assert len(titles) == commits + 1, titles  # the first is the Hub's own
        return content

    return check


@pytest.mark.parametrize("bare", [False, True], ids=["PeftModel", "CoreRegionModel"])
def test_adapters_that_push_themselves(bare: bool, adapted: Any, pushed: Callable[..., str], online: Any) -> None:
    """The repository gets PEFT's card with our section; a second push keeps what a user wrote there."""
    repo_id = f"{online.hub.user}/adapter"
    model = adapted.base_model if bare else adapted
    model.push_to_hub(repo_id)
    content = pushed("adapter", library="peft", commits=1)
    assert "- PEFT " in content
    assert "🤗 transformers model that has been pushed" not in content
    edited = content.replace("tags:", "mine: words\nlicense: mit\ntags:\n- favourite").replace(
        "# Model Card", "My words.\n\n# Model Card"
    )
    online.hub.commit(repo_id, {"README.md": edited})
    model.push_to_hub(repo_id)
    again = pushed("adapter", library="peft", commits=3)
    card = ModelCard(again)
    assert "My words." in again
    assert (card.data.license, card.data.to_dict()["mine"]) == ("mit", "words")
    assert "favourite" in card.data.tags
    assert again.count("<!-- core-region -->") == 1


def test_an_adapter_saved_by_hand(adapted: Any, mask: CoreMask, tmp_path: Path) -> None:
    """The folder's card keeps what a user wrote, tags and base model included, and names no folder."""
    folder = tmp_path / "saved"
    adapted.save_pretrained(folder)
    path = folder / "README.md"
    check_card(path.read_text(encoding="utf-8"), private=tmp_path)
    path.write_text(
        path.read_text(encoding="utf-8").replace("tags:\n", "tags:\n- mine\n") + "\nMy words.\n", encoding="utf-8"
    )
    adapted.save_pretrained(folder)
    content = path.read_text(encoding="utf-8")
    card = check_card(content, private=tmp_path)
    assert "mine" in card.data.tags
    assert "My words." in content
    read_reference(folder).require_same(mask)


def test_a_loaded_adapter_still_knows_its_mask(
    adapted: Any, base: str, pushed: Callable[..., str], online: Any, tmp_path: Path
) -> None:
    """From its own folder, where the mask has no repository, it is pushed with the reference that it was saved with."""
    from peft import PeftModel

    adapted.save_pretrained(tmp_path / "saved")
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "saved")
    loaded.push_to_hub(f"{online.hub.user}/adapter")
    pushed("adapter", library="peft", commits=1)


def test_trl_with_an_adapter(base: str, mask: CoreMask, pushed: Callable[..., str], online: Any) -> None:
    """SFTTrainer itself, and a second push of the same run."""
    args = SFTConfig("sft", hub_model_id=f"{online.hub.user}/sft", save_strategy="no", **TRL_STEP)
    adapter = CoreRegionConfig(core_mask=mask, r=2, task_type="CAUSAL_LM")
    trainer = SFTTrainer(base, args, train_dataset=rows(), peft_config=adapter)
    trainer.train()
    trainer.push_to_hub()
    content = pushed("sft", library="peft", commits=1)
    assert "trained using [TRL]" in content
    assert "import hf_langcore  # makes PEFT know the method\nfrom transformers import pipeline" in content
    trainer.push_to_hub(commit_message="again", tags=["mine"])
    assert "mine" in ModelCard(pushed("sft", library="peft", commits=2)).data.tags


def test_our_trainer_with_an_adapter(base: str, mask: CoreMask, pushed: Callable[..., str], online: Any) -> None:
    """CoreRegionSFTTrainer with peft_config, pushing checkpoints while it runs."""
    args = CoreRegionSFTConfig(
        "ours", push_to_hub=True, hub_strategy="every_save", save_steps=1, hub_model_id=f"{online.hub.user}/ours", **TRL_STEP
    )  # fmt: skip
    adapter = CoreRegionConfig(core_mask=mask, r=2, task_type="CAUSAL_LM")
    trainer = CoreRegionSFTTrainer(base, args, train_dataset=rows(), peft_config=adapter)
    trainer.train()
    pushed("ours", library="peft", commits=1)
    trainer.push_to_hub()
    pushed("ours", library="peft", commits=2)


def test_our_trainer_with_a_frozen_core(base: str, mask: CoreMask, pushed: Callable[..., str], online: Any) -> None:
    """CoreRegionSFTTrainer with core_mask; what it pushes while it runs is complete, so that the end has little to add."""
    args = CoreRegionSFTConfig(
        "ours", push_to_hub=True, hub_strategy="checkpoint", save_steps=1, hub_model_id=f"{online.hub.user}/ours", **TRL_STEP
    )  # fmt: skip
    trainer = CoreRegionSFTTrainer(base, args, train_dataset=rows(), core_mask=mask)
    trainer.train()
    content = pushed("ours", library="transformers", commits=2)  # the model, and its checkpoint
    assert "not one of its bits changed" in content
    trainer.push_to_hub()
    assert pushed("ours", library="transformers", commits=2) == content


DATA = [{"input_ids": torch.arange(3, 13), "labels": torch.arange(3, 13)}] * 2


def test_any_trainer_with_our_callbacks(base: str, mask: CoreMask, pushed: Callable[..., str], online: Any) -> None:
    """Transformers' Trainer pushes without a card while it runs, so ours is the first; at the end both are one."""
    args = TrainingArguments(
        "plain", push_to_hub=True, hub_strategy="every_save", save_steps=1, hub_model_id=f"{online.hub.user}/plain", **STEP
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(base)
    trainer = Trainer(model, args, train_dataset=DATA, callbacks=[AnchorCallback(0.25), CoreFreezeCallback(mask)])
    trainer.train()
    for commits in (1, 2):
        content = pushed("plain", library="transformers", commits=commits)
        assert "(strength 0.25)" in content
        assert "not one of its bits changed" in content
        if commits == 1:
            trainer.push_to_hub()
    assert "learning_rate: 5e-05" in content


def test_a_trained_model_that_pushes_itself(
    base: str, mask: CoreMask, pushed: Callable[..., str], online: Any
) -> None:
    """Without the trainer, which kept no copy on the Hub; what a user writes there stays."""
    model = AutoModelForCausalLM.from_pretrained(base)
    args = TrainingArguments("plain", save_strategy="no", **STEP)
    Trainer(model, args, train_dataset=DATA, callbacks=[AnchorCallback(0.25), CoreFreezeCallback(mask)]).train()
    repo_id = f"{online.hub.user}/itself"
    model.push_to_hub(repo_id)
    content = pushed("itself", library="transformers", commits=1)
    assert "(strength 0.25)" in content
    online.hub.commit(repo_id, {"README.md": content + "My words.\n"})
    model.push_to_hub(repo_id)
    # Nothing would change, so the Hub gets no third commit; without our part, or without theirs, it would.
    assert pushed("itself", library="transformers", commits=2) == content + "My words.\n"


def test_any_trainer_with_an_adapter(adapted: Any, pushed: Callable[..., str], online: Any) -> None:
    """Transformers' Trainer around a PeftModel, without any callback of ours."""
    args = TrainingArguments("plain", hub_model_id=f"{online.hub.user}/plain", save_strategy="no", **STEP)
    trainer = Trainer(adapted, args, train_dataset=DATA)
    trainer.train()
    trainer.push_to_hub()
    assert "learning_rate: 5e-05" in pushed("plain", library="peft", commits=1)


def test_an_anchor_alone(base: str, online: Any, tmp_path: Path) -> None:
    """No mask, so none is named, and a reference that was left in the folder goes."""
    args = TrainingArguments("plain", hub_model_id=f"{online.hub.user}/plain", save_strategy="no", **STEP)
    Path("plain").mkdir()
    Path("plain/core_mask_ref.json").write_text("{}")
    trainer = Trainer(
        AutoModelForCausalLM.from_pretrained(base), args, train_dataset=DATA, callbacks=[AnchorCallback(0.25)]
    )
    trainer.train()
    trainer.push_to_hub()
    files = online.hub.files(f"{online.hub.user}/plain")
    card = check_card(files["README.md"].decode(), private=tmp_path)
    assert "core_mask_ref.json" not in files
    assert "core-mask" not in card.data.tags
    assert "fine-tuned version of a model that is not on the Hub on an unknown dataset" in card.text


def test_cards_of_others_are_left_alone(base: str, online: Any) -> None:
    """LoRA, and a Trainer without anything of ours: not a word."""
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(task_type="CAUSAL_LM"))
    model.push_to_hub(f"{online.hub.user}/lora")
    args = TrainingArguments("plain", hub_model_id=f"{online.hub.user}/plain", save_strategy="no", **STEP)
    Trainer(AutoModelForCausalLM.from_pretrained(base), args, train_dataset=DATA).push_to_hub()
    for name in ("lora", "plain"):
        files = online.hub.files(f"{online.hub.user}/{name}")
        assert b"core" not in files["README.md"]
        assert "core_mask_ref.json" not in files


PUSH = """
import os, sys
sha, user = sys.argv[1:]
os.environ["CI"] = "1"
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained("org/base", revision=sha)
core_mask = CoreMask.from_pretrained("org/mask")
config = CoreRegionConfig(core_mask=core_mask, r=2, task_type="CAUSAL_LM")
"""
BY_PEFT = """
import hf_langcore
from peft import get_peft_model
from hf_langcore import CoreMask, CoreRegionConfig
{push}
get_peft_model(base, config).push_to_hub(user + "/pushed")
{execute}
"""
BY_TRL = """
from peft import get_peft_model
from trl import SFTConfig, SFTTrainer
from datasets import Dataset
from hf_langcore import CoreMask, CoreRegionConfig
{push}
args = SFTConfig("out", hub_model_id=user + "/pushed", max_steps=1, use_cpu=True, bf16=False, report_to=[], save_strategy="no")
rows = Dataset.from_dict({{"text": ["a cat", "a dog"]}})
trainer = SFTTrainer("org/base", args, train_dataset=rows, peft_config=config)
trainer.train()
trainer.push_to_hub()
{execute}
"""
EXECUTE = """
from huggingface_hub import ModelCard
content = str(ModelCard.load(user + "/pushed"))
code = content.split("```python\\n")[1].split("```")[0]
exec(code, space := {})
assert space["model"].base_model.core_mask == core_mask
origin = space["model"].base_model.core_mask.origin
assert (origin.repo_id, origin.revision) == ("org/mask", core_mask.origin.revision), origin
assert core_mask.origin.revision in content and sha in content
"""


@pytest.mark.parametrize("script", [BY_PEFT, BY_TRL], ids=["ours first", "theirs first"])
def test_fresh_processes_in_either_order(script: str, loopback_hub: Any, run_online: Any, tmp_path: Path) -> None:
    """Whichever library is imported first, the card survives the push, and the code in it loads what was pushed."""
    folder = save_base(tmp_path / "base")
    sha = loopback_hub.create(BASE, files=files_in(folder))
    mask_of(AutoModelForCausalLM.from_pretrained(folder), revision=sha).save_pretrained(tmp_path / "mask")
    loopback_hub.create("org/mask", files=files_in(tmp_path / "mask"))
    filled = script.format(push=PUSH, execute=EXECUTE)
    run_online(filled, sha, loopback_hub.user, token=loopback_hub.tokens.write)
    check_card(loopback_hub.files(f"{loopback_hub.user}/pushed")["README.md"].decode(), private=tmp_path)
