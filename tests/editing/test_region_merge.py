"""The core of one checkpoint and the complement of another, on disk."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from hf_langcore.architecture import bare_weights, decoder_weights
from hf_langcore.binding import LINEAGE_ATTRIBUTE, bind, provenance_of
from hf_langcore.editing import conversion
from hf_langcore.editing.region_merge import merge_regions
from hf_langcore.errors import ArtifactExistsError, CoreMaskMismatchError, InputError, UnsupportedModelError
from hf_langcore.masks import CoreMask

_INTEGERS = {2: torch.int16, 4: torch.int32}
_SIZES = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_experts_per_tok": 2}


class Pair(NamedTuple):
    """A base, a model trained from it (every weight differs), and a core of the base."""

    base: Path
    tuned: Path
    core_mask: CoreMask


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().clone().contiguous().view(_INTEGERS[tensor.element_size()])


def core_of(model: Any, *, everything: bool = False) -> CoreMask:
    weights = bare_weights(model) if everything else decoder_weights(model)
    torch.manual_seed(1)
    chosen = {name: torch.rand(weight.parameter.shape) < 0.3 for name, weight in weights.items()}
    return CoreMask(chosen, provenance=provenance_of(model, weights, method="random"))


def train(model: Any) -> None:
    """Change every weight."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)


def pair_of(model: Any, folder: Path, *, everything: bool = False, **options: Any) -> Pair:
    mask = core_of(model, everything=everything)
    model.save_pretrained(folder / "base", **options)
    train(model)
    model.save_pretrained(folder / "tuned", **options)
    return Pair(folder / "base", folder / "tuned", mask)


def parameters(folder: Path) -> dict[str, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    return {name: weight.parameter.detach() for name, weight in bare_weights(model).items()}


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


def rewrite_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def check_merged(merged: Path, core: Path, complement: Path, core_mask: CoreMask) -> None:
    """What transformers loads has every bit of the core from one, and every other bit from the other."""
    made, ones, others = parameters(merged), parameters(core), parameters(complement)
    assert made.keys() == others.keys()
    for name, value in made.items():
        chosen = core_mask[name] if name in core_mask else torch.zeros_like(value, dtype=torch.bool)
        assert value.dtype == others[name].dtype
        assert torch.equal(bits(value)[chosen], bits(ones[name])[chosen])
        assert torch.equal(bits(value)[~chosen], bits(others[name])[~chosen])


@pytest.fixture
def pair(model: Any, tmp_path: Path) -> Pair:
    """Of both tiny models: Conv1D holds its matrices the other way round."""
    return pair_of(model, tmp_path)


@pytest.mark.parametrize("size", [20_000, "5GB"])
def test_core_and_complement(size: Any, pair: Pair, tmp_path: Path) -> None:
    """Either way round, in one file or several; the result is a folder that transformers loads."""
    made = merge_regions(pair.base, pair.tuned, pair.core_mask, tmp_path / "a", max_shard_size=size, progress=False)
    assert made == tmp_path / "a"
    assert (made / "model.safetensors.index.json").exists() == (size != "5GB")
    check_merged(made, pair.base, pair.tuned, pair.core_mask)
    # Sharded files can be read again.
    again = merge_regions(made, pair.base, pair.core_mask, tmp_path / "b", progress=False)
    check_merged(again, pair.base, pair.base, pair.core_mask)
    check_merged(
        merge_regions(pair.tuned, pair.base, pair.core_mask, tmp_path / "c", progress=False),
        pair.tuned,
        pair.base,
        pair.core_mask,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_bit(dtype: torch.dtype, llama: Any, tmp_path: Path) -> None:
    """-0.0 and NaN stay what they are, on both sides."""
    llama.to(dtype)
    odd = torch.tensor([-0.0, math.nan, math.inf, 0.0], dtype=dtype)
    for value in (odd, odd.flip(0)):
        with torch.no_grad():
            for weight in decoder_weights(llama).values():
                weight.parameter.view(-1)[:4] = value
        llama.save_pretrained(tmp_path / ("tuned" if (tmp_path / "base").exists() else "base"))
    mask = CoreMask({name: torch.rand(weight.shape) < 0.5 for name, weight in decoder_weights(llama).items()})
    made = merge_regions(tmp_path / "base", tmp_path / "tuned", mask, tmp_path / "out", progress=False)
    check_merged(made, tmp_path / "base", tmp_path / "tuned", mask)


@pytest.mark.parametrize("form", ["files", "model"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Mixtral", {"num_local_experts": 4}),
        ("Qwen3Moe", {"num_experts": 4, "moe_intermediate_size": 16, "head_dim": 8}),
    ],
)
def test_weights_that_transformers_converts(name: str, options: dict[str, int], form: str, tmp_path: Path) -> None:
    """The mask speaks of experts in one tensor, the files have many; the fingerprint is checked all the same."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**_SIZES, **_HEADS, **options)
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    pair = pair_of(model, tmp_path, save_original_format=form == "files")
    assert any("experts" in name and name not in tensors(pair.base) for name in pair.core_mask) == (form == "files")
    made = merge_regions(
        pair.base, pair.tuned, pair.core_mask, tmp_path / "out", max_shard_size=12_000, progress=False
    )
    assert tensors(made).keys() == tensors(pair.tuned).keys()
    check_merged(made, pair.base, pair.tuned, pair.core_mask)
    bind(AutoModelForCausalLM.from_pretrained(made), pair.core_mask)
    merge_regions(made, pair.tuned, pair.core_mask, tmp_path / "again", progress=False)
    with pytest.raises(CoreMaskMismatchError, match="neither checkpoint"):
        merge_regions(pair.tuned, pair.tuned, pair.core_mask, tmp_path / "wrong", progress=False)


@pytest.mark.parametrize("change", ["remove", "add"])
def test_names_without_the_prefix(change: str, gpt2: Any, tmp_path: Path) -> None:
    """GPT-2's own files on the Hub call `transformer.h.0...` just `h.0...`; one side may be in that form, or both."""
    pair = pair_of(gpt2, tmp_path)
    renamed = {
        name.removeprefix("transformer.") if change == "remove" else f"transformer.{name}": value
        for name, value in tensors(pair.base).items()
    }
    plain = tmp_path / "plain"
    shutil.copytree(pair.base, plain)
    save_file(renamed, plain / "model.safetensors", metadata={"format": "pt"})
    made = merge_regions(plain, pair.tuned, pair.core_mask, tmp_path / "out", progress=False)
    check_merged(made, pair.base, pair.tuned, pair.core_mask)
    back = merge_regions(pair.tuned, plain, pair.core_mask, tmp_path / "back", progress=False)
    assert tensors(back).keys() == renamed.keys()
    if change == "remove":  # transformers itself does not take a prefix too many
        check_merged(back, pair.tuned, plain, pair.core_mask)


@pytest.mark.parametrize("twice", ["core", "complement", "neither"])
def test_tied_weights(twice: str, gpt2: Any, tmp_path: Path) -> None:
    """A core in tied embeddings, which the files of either side may hold once or under both names."""
    pair = pair_of(gpt2, tmp_path, everything=True)
    folder = {"core": pair.base, "complement": pair.tuned, "neither": None}[twice]
    if folder is not None:
        both = tensors(folder)
        both["lm_head.weight"] = both["transformer.wte.weight"].clone()
        save_file(both, folder / "model.safetensors", metadata={"format": "pt"})
    made = merge_regions(pair.base, pair.tuned, pair.core_mask, tmp_path / "out", progress=False)
    check_merged(made, pair.base, pair.tuned, pair.core_mask)
    assert tensors(made).keys() == tensors(pair.tuned).keys()
    written = tensors(made)
    if twice == "complement":
        assert torch.equal(written["lm_head.weight"], written["transformer.wte.weight"])


def test_the_tied_name_alone(gpt2: Any, tmp_path: Path) -> None:
    """The core's files may hold tied embeddings under the other of the two names."""
    pair = pair_of(gpt2, tmp_path, everything=True)
    one = tensors(pair.base)
    one["lm_head.weight"] = one.pop("transformer.wte.weight")
    save_file(one, pair.base / "model.safetensors", metadata={"format": "pt"})
    made = merge_regions(pair.base, pair.tuned, pair.core_mask, tmp_path / "out", progress=False)
    chosen = pair.core_mask["transformer.wte.weight"]
    merged = tensors(made)["transformer.wte.weight"]
    assert torch.equal(merged[chosen], one["lm_head.weight"][chosen])
    assert not torch.equal(merged[~chosen], one["lm_head.weight"][~chosen])


def test_tensors_outside_the_mask_come_with_the_complement(llama: Any, tmp_path: Path) -> None:
    """More tokens, and buffers that one side lacks, do not matter: they are no core."""
    pair = pair_of(llama, tmp_path)
    llama.resize_token_embeddings(130)
    llama.save_pretrained(pair.tuned)
    extra = tensors(pair.tuned) | {"model.rotary_emb.inv_freq": torch.ones(4)}
    save_file(extra, pair.tuned / "model.safetensors", metadata={"format": "pt"})
    made = tensors(merge_regions(pair.base, pair.tuned, pair.core_mask, tmp_path / "out", progress=False))
    assert made.keys() == extra.keys()
    assert made["model.embed_tokens.weight"].shape == (130, 32)


class TestWhatComesAlong:
    def test_other_files(self, pair: Pair, tmp_path: Path) -> None:
        """Tokenizer and templates come from the complement; what belongs to its training run stays there."""
        (pair.base / "tokenizer.json").write_text("of the base")
        (pair.tuned / "tokenizer.json").write_text("of the tuned")
        (pair.tuned / "additional_chat_templates").mkdir()
        (pair.tuned / "additional_chat_templates" / "tools.jinja").write_text("{{ x }}")
        for name in ("trainer_state.json", "training_args.bin", "core_values.safetensors", "README.md"):
            (pair.tuned / name).write_text("")
        made = merge_regions(pair.base, pair.tuned, pair.core_mask, tmp_path / "out", progress=False)
        assert (made / "tokenizer.json").read_text() == "of the tuned"
        found = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
        assert found == {
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "additional_chat_templates/tools.jinja",
        }

    def test_the_mask_fits_afterwards(self, pair: Pair, tmp_path: Path) -> None:
        """With the base's core the mask fits the result, whose other weights are not the base's."""
        made = merge_regions(pair.base, pair.tuned, pair.core_mask, tmp_path / "out", progress=False)
        bind(AutoModelForCausalLM.from_pretrained(made), pair.core_mask)
        config = json.loads((made / "config.json").read_text())
        assert config.pop(LINEAGE_ATTRIBUTE) == [pair.core_mask.provenance.base_fingerprint.total]  # type: ignore[union-attr]
        assert config == json.loads((pair.tuned / "config.json").read_text())

    def test_a_foreign_core_claims_nothing(self, pair: Pair, tmp_path: Path) -> None:
        """The base's config does not vouch for a core that is not the base's any more."""
        total = pair.core_mask.provenance.base_fingerprint.total  # type: ignore[union-attr]
        rewrite_config(pair.base, **{LINEAGE_ATTRIBUTE: [total, "x", "y"]})
        rewrite_config(pair.tuned, **{LINEAGE_ATTRIBUTE: ["z", "y"]})
        made = merge_regions(pair.tuned, pair.base, pair.core_mask, tmp_path / "out", progress=False)
        assert json.loads((made / "config.json").read_text())[LINEAGE_ATTRIBUTE] == ["y"]
        with pytest.raises(CoreMaskMismatchError):
            bind(AutoModelForCausalLM.from_pretrained(made), pair.core_mask)

    def test_base_check(self, pair: Pair, tmp_path: Path) -> None:
        """A mask of other weights is refused, warned about, or taken as it is."""
        arguments = (pair.tuned, pair.tuned, pair.core_mask, tmp_path / "out")
        with pytest.raises(CoreMaskMismatchError, match="neither checkpoint"):
            merge_regions(*arguments, progress=False)
        assert not (tmp_path / "out").exists()
        with pytest.warns(UserWarning, match="not that of the mask's base"):
            made = merge_regions(*arguments, base_check="warn", progress=False)
        assert LINEAGE_ATTRIBUTE not in json.loads((made / "config.json").read_text())
        merge_regions(*arguments, base_check="off", overwrite=True, progress=False)
        with pytest.raises(InputError, match="base_check"):
            merge_regions(*arguments, base_check="perhaps", overwrite=True, progress=False)


class TestFolders:
    def test_what_is_there_stays(self, pair: Pair, tmp_path: Path) -> None:
        """A folder that is not empty, or that holds an adapter, is refused."""
        with pytest.raises(ArtifactExistsError, match="not empty"):
            merge_regions(pair.base, pair.tuned, pair.core_mask, pair.tuned)
        (pair.tuned / "adapter_config.json").write_text("{}")
        with pytest.raises(ArtifactExistsError, match="adapter"):
            merge_regions(pair.base, pair.tuned, pair.core_mask, pair.tuned, overwrite=True)

    def test_in_place(self, pair: Pair, tmp_path: Path) -> None:
        """The complement's own folder can be the output; shards of before do not stay."""
        AutoModelForCausalLM.from_pretrained(pair.tuned).save_pretrained(pair.tuned, max_shard_size=20_000)
        (pair.tuned / "model.safetensors").unlink(missing_ok=True)
        shutil.copytree(pair.tuned, tmp_path / "copy")
        (pair.tuned / "notes.md").write_text("mine")
        merge_regions(pair.base, pair.tuned, pair.core_mask, pair.tuned, overwrite=True, progress=False)
        check_merged(pair.tuned, pair.base, tmp_path / "copy", pair.core_mask)
        assert [path.name for path in pair.tuned.glob("model*")] == ["model.safetensors"]
        assert (pair.tuned / "notes.md").exists()

    def test_failures_leave_nothing(self, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A full disk in the second shard."""
        before = sorted(path.name for path in tmp_path.rglob("*"))
        calls = iter(range(99))
        save = conversion.save_file

        def fails(*args: Any, **kwargs: Any) -> None:
            if next(calls):
                raise OSError("No space left on device")
            save(*args, **kwargs)

        monkeypatch.setattr(conversion, "save_file", fails)
        with pytest.raises(OSError, match="No space"):
            merge_regions(
                pair.base, pair.tuned, pair.core_mask, tmp_path / "out", max_shard_size=20_000, progress=False
            )
        assert sorted(path.name for path in tmp_path.rglob("*")) == before


class TestRefused:
    @pytest.fixture
    def pair(self, llama: Any, tmp_path: Path) -> Pair:
        return pair_of(llama, tmp_path)

    @pytest.fixture
    def refused(self, pair: Pair, tmp_path: Path) -> Any:
        """Merge, expect an error and no output."""

        def check(error: type[Exception], match: str, *, core: Any = pair.base, mask: Any = pair.core_mask) -> None:
            with pytest.raises(error, match=match):
                merge_regions(core, pair.tuned, mask, tmp_path / "out", base_check="off", progress=False)
            assert not (tmp_path / "out").exists()

        return check

    def test_dtypes(self, pair: Pair, refused: Any) -> None:
        """A rounded core is another core; the message says how to make both one dtype."""
        AutoModelForCausalLM.from_pretrained(pair.tuned).to(torch.bfloat16).save_pretrained(pair.tuned)
        refused(CoreMaskMismatchError, r"bfloat16.*float32.*rounded.*one dtype")

    def test_a_wider_dtype_holds_the_core_exactly(self, pair: Pair, tmp_path: Path) -> None:
        """A checkpoint in bfloat16 that was trained and saved in float32."""
        AutoModelForCausalLM.from_pretrained(pair.base).to(torch.bfloat16).save_pretrained(pair.base)
        made = merge_regions(pair.base, pair.tuned, pair.core_mask, tmp_path / "out", base_check="off", progress=False)
        merged, ones, others = parameters(made), parameters(pair.base), parameters(pair.tuned)
        for name, chosen in pair.core_mask.items():
            assert merged[name].dtype == torch.float32
            assert torch.equal(bits(merged[name])[chosen], bits(ones[name].float())[chosen])
            assert torch.equal(bits(merged[name])[~chosen], bits(others[name])[~chosen])

    def test_names_and_shapes(self, pair: Pair, refused: Any) -> None:
        """Of the mask and the model, and of config and files."""
        refused(CoreMaskMismatchError, "another architecture", mask=CoreMask({"a.weight": torch.ones(2).bool()}))
        name = "model.layers.0.self_attn.q_proj.weight"
        refused(CoreMaskMismatchError, "has shape", mask=CoreMask({name: torch.ones(3, 3).bool()}))
        smaller = tensors(pair.base)
        smaller[name] = smaller[name][:3].clone()
        save_file(smaller, pair.base / "model.safetensors", metadata={"format": "pt"})
        refused(CoreMaskMismatchError, r"shape \(32, 32\).*\(3, 32\)")
        del smaller[name]
        save_file(smaller, pair.base / "model.safetensors", metadata={"format": "pt"})
        refused(CoreMaskMismatchError, "no tensor 'model.layers.0.self_attn.q_proj.weight'")

    def test_checkpoints(self, pair: Pair, refused: Any, tmp_path: Path) -> None:
        """Missing, damaged, quantised, of another format."""
        refused(InputError, "neither a folder", core=tmp_path / "nowhere")
        (tmp_path / "empty").mkdir()
        refused(InputError, r"config\.json is missing", core=tmp_path / "empty")
        weights = pair.base / "model.safetensors"
        whole = weights.read_bytes()
        weights.write_bytes(whole[:-10])
        refused(InputError, "damaged")
        weights.rename(pair.base / "pytorch_model.bin")
        refused(UnsupportedModelError, "save_pretrained writes safetensors")
        index = {"weight_map": {"model.norm.weight": "a.safetensors"}}
        (pair.base / "model.safetensors.index.json").write_text(json.dumps(index))
        save_file({"other": torch.ones(1)}, pair.base / "a.safetensors")
        refused(InputError, r"lacks the tensor 'model\.norm\.weight'")
        rewrite_config(pair.base, quantization_config={"quant_method": "gptq"})
        refused(UnsupportedModelError, "quantised")


_MEASURED = """
import resource, sys
from pathlib import Path
import torch, transformers
from hf_langcore.editing.region_merge import merge_regions
from hf_langcore.masks import CoreMask
folder = Path(sys.argv[1])
mask = CoreMask.from_pretrained(folder / "core")
transformers.AutoModelForCausalLM, torch.where(torch.ones(9) > 0, 1, 0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
merge_regions(folder / "base", folder / "tuned", mask, folder / "out", max_shard_size="10MB", progress=False)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_memory(tmp_path: Path) -> None:
    """Far less than one of the checkpoints is ever in memory, files that are read included."""
    config = transformers.LlamaConfig(
        vocab_size=500, hidden_size=768, intermediate_size=2048, num_hidden_layers=6, num_attention_heads=8
    )
    model = transformers.LlamaForCausalLM(config)
    pair = pair_of(model, tmp_path)
    pair.core_mask.save_pretrained(tmp_path / "core")
    size = (pair.base / "model.safetensors").stat().st_size
    run = subprocess.run([sys.executable, "-c", _MEASURED, str(tmp_path)], check=True, capture_output=True, text=True)
    assert int(run.stdout.split()[-1]) < 0.5 * size  # two whole checkpoints and the result would be 3.0
    check_merged(tmp_path / "out", pair.base, pair.tuned, pair.core_mask)
