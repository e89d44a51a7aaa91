"""Tiny random models under the names that PEFT's tests ask the Hub for, laid out as its local cache.

With HF_HUB_CACHE set to the folder and HF_HUB_OFFLINE=1, `from_pretrained("hf-internal-testing/...")` finds them, and a
model knows the name that the tests expect it to know. Sizes follow the real repositories where a test depends on them
(number of layers, the names of the layers, tied embeddings); vocabularies are small everywhere.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

VOCABULARY = 1024
"""More than the 1000 that some tests draw token ids from."""

_SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


@dataclass(frozen=True)
class Repository:
    """What stands under one name on the stand-in for the Hub.

    Attributes:
        model: Class of the model; for an adapter, if its base model is of another class than the repository's.
        config: Its config.
        revisions: Names under which different weights of it can be asked for.
        adapter_of: For an adapter: the repository of its base model.
        adapter: For an adapter: options of its config.
        folder: For an adapter: the folder in the repository.
    """

    model: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    revisions: tuple[str, ...] = ("main",)
    adapter_of: str = ""
    adapter: dict[str, Any] = field(default_factory=dict)
    folder: str = ""


_LLAMA: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128,
    **_IDS,
}
_GEMMA3 = {**_LLAMA, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16}
_GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 5, "n_head": 4, "n_positions": 512, **_IDS}
_GPTJ = {**_GPT2, "rotary_dim": 4}
_OPT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "word_embed_proj_dim": 16,
    "ffn_dim": 4,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    **_IDS,
}
_OPT_12 = {**_OPT, "hidden_size": 32, "word_embed_proj_dim": 768, "ffn_dim": 64, "num_hidden_layers": 12}
_BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
_DEBERTA = {**_BERT, "relative_attention": False, "position_biased_input": True, "pos_att_type": ["p2c", "c2p"]}
_T5: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_ff": 37,
    "d_kv": 8,
    "num_layers": 5,
    "num_heads": 4,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
_BART = {
    "vocab_size": VOCABULARY,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 4,
    "decoder_ffn_dim": 4,
    "max_position_embeddings": 100,
    "forced_eos_token_id": None,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
_MOE = {**_LLAMA, "intermediate_size": 32, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2}
_LLAMA4 = {
    **_MOE,
    "hidden_size": 8,
    "intermediate_size_mlp": 32,
    "head_dim": 4,
    "num_experts_per_tok": 1,
    "interleave_moe_layer_step": 1,
}
_GPT_OSS = {**_MOE, "hidden_size": 8, "head_dim": 4, "sliding_window": 16, "dtype": "bfloat16"}
_QWEN3_MOE = {**_MOE, "moe_intermediate_size": 24, "num_experts": 4, "head_dim": 8}
_CLIP_TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "projection_dim": 32,
    **_IDS,
}
_NEOX = {**_LLAMA, "hidden_size": 32}
_NEOX.pop("num_key_value_heads")
_BLOOM = {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 5, "n_head": 4, **_IDS}
_WHISPER = {
    "vocab_size": VOCABULARY,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 4,
    "decoder_ffn_dim": 4,
    "decoder_start_token_id": 1,
    **_IDS,
}
_SEQ_LLAMA = {**_LLAMA, "hidden_size": 8, "num_key_value_heads": 2, "num_labels": 2}

REPOSITORIES: dict[str, Repository] = {
    "peft-internal-testing/tiny-random-OPTForCausalLM": Repository(transformers.OPTForCausalLM, _OPT),
    "peft-internal-testing/opt-125m": Repository(transformers.OPTForCausalLM, _OPT_12, revisions=("main", "v2.0.0")),
    "peft-internal-testing/tiny-random-GPT2LMHeadModel": Repository(transformers.GPT2LMHeadModel, _GPT2),
    "peft-internal-testing/tiny-random-gpt2": Repository(transformers.GPT2LMHeadModel, _GPT2),
    "hf-internal-testing/tiny-random-gpt2": Repository(transformers.GPT2LMHeadModel, _GPT2),
    "gpt2": Repository(transformers.GPT2LMHeadModel, _GPT2),
    "peft-internal-testing/tiny-random-GPTJForCausalLM": Repository(transformers.GPTJForCausalLM, _GPTJ),
    "trl-internal-testing/tiny-random-LlamaForCausalLM": Repository(transformers.LlamaForCausalLM, _LLAMA),
    "peft-internal-testing/tiny-random-LlamaForCausalLM": Repository(transformers.LlamaForCausalLM, _LLAMA),
    "hf-internal-testing/tiny-random-LlamaForCausalLM": Repository(transformers.LlamaForCausalLM, _LLAMA),
    "peft-internal-testing/tiny-dummy-qwen2": Repository(
        transformers.Qwen2ForCausalLM, {**_LLAMA, "hidden_size": 8, "num_key_value_heads": 2}
    ),
    "hf-internal-testing/tiny-random-Gemma3ForCausalLM": Repository(transformers.Gemma3ForCausalLM, _GEMMA3),
    "hf-internal-testing/tiny-random-MistralForCausalLM": Repository(transformers.MistralForCausalLM, _LLAMA),
    "trl-internal-testing/tiny-Qwen3ForCausalLM": Repository(
        transformers.Qwen3ForCausalLM, {**_LLAMA, "head_dim": 4, "num_key_value_heads": 2}
    ),
    "trl-internal-testing/tiny-Llama4ForCausalLM": Repository(transformers.Llama4ForCausalLM, _LLAMA4),
    "trl-internal-testing/tiny-GptOssForCausalLM": Repository(transformers.GptOssForCausalLM, _GPT_OSS),
    "trl-internal-testing/tiny-Qwen3MoeForCausalLM": Repository(transformers.Qwen3MoeForCausalLM, _QWEN3_MOE),
    "hf-internal-testing/tiny-qwen3-moe": Repository(transformers.Qwen3MoeForCausalLM, _QWEN3_MOE),
    "hf-internal-testing/Mixtral-tiny": Repository(transformers.MixtralForCausalLM, _MOE),
    "peft-internal-testing/tiny-random-GPTNeoXForCausalLM": Repository(transformers.GPTNeoXForCausalLM, _NEOX),
    "peft-internal-testing/tiny-random-BloomForCausalLM": Repository(transformers.BloomForCausalLM, _BLOOM),
    "peft-internal-testing/tiny-random-t5": Repository(transformers.T5ForConditionalGeneration, _T5),
    "peft-internal-testing/tiny-random-T5ForConditionalGeneration": Repository(
        transformers.T5ForConditionalGeneration, _T5
    ),
    "peft-internal-testing/tiny-random-T5ForConditionalGeneration-calibrated": Repository(
        transformers.T5ForConditionalGeneration, _T5
    ),
    "google/flan-t5-small": Repository(transformers.T5ForConditionalGeneration, _T5),
    "peft-internal-testing/tiny-random-BartForConditionalGeneration": Repository(
        transformers.BartForConditionalGeneration, _BART
    ),
    "peft-internal-testing/tiny-random-BertModel": Repository(
        transformers.BertForPreTraining, _BERT, revisions=("main", "v2.0.0", "v1.2.3")
    ),
    "hf-internal-testing/tiny-random-BertModel": Repository(
        transformers.BertForPreTraining, _BERT, revisions=("main", "v2.0.0", "v1.2.3")
    ),
    "bert-base-uncased": Repository(transformers.BertForSequenceClassification, _BERT),
    "peft-internal-testing/tiny-random-BertForSequenceClassification": Repository(
        transformers.BertForSequenceClassification, _BERT
    ),
    "peft-internal-testing/tiny-random-RobertaModel": Repository(transformers.RobertaModel, _BERT),
    "peft-internal-testing/tiny-random-RobertaForSequenceClassification": Repository(
        transformers.RobertaForSequenceClassification, _BERT
    ),
    "peft-internal-testing/tiny-random-DebertaModel": Repository(transformers.DebertaModel, _DEBERTA),
    "peft-internal-testing/tiny-random-DebertaV2Model": Repository(transformers.DebertaV2Model, _DEBERTA),
    "trl-internal-testing/tiny-LlamaForSequenceClassification-3.2": Repository(
        transformers.LlamaForSequenceClassification, _SEQ_LLAMA
    ),
    "peft-internal-testing/tiny-clip-text-2": Repository(transformers.CLIPTextModelWithProjection, _CLIP_TEXT),
    "peft-internal-testing/opt-tokenizer-revision": Repository(
        adapter_of="peft-internal-testing/opt-125m",
        adapter={"task_type": "CAUSAL_LM"},
        revisions=("main", "my-revision"),
    ),
    "peft-internal-testing/tiny-opt-lora-revision": Repository(
        adapter_of="peft-internal-testing/tiny-random-OPTForCausalLM",
        adapter={"task_type": "CAUSAL_LM"},
        revisions=("main", "test"),
    ),
    "peft-internal-testing/tiny-OPTForCausalLM-lora": Repository(
        adapter_of="peft-internal-testing/tiny-random-OPTForCausalLM", adapter={"task_type": "CAUSAL_LM"}
    ),
    "peft-internal-testing/gpt2-lora-random": Repository(
        adapter_of="gpt2", adapter={"task_type": "CAUSAL_LM", "target_modules": ["c_attn"]}
    ),
    "peft-internal-testing/tiny-random-BertModel-lora": Repository(
        transformers.BertLMHeadModel,
        adapter_of="hf-internal-testing/tiny-random-BertModel",
        adapter={"task_type": "CAUSAL_LM", "target_modules": ["query", "value"]},
        revisions=("main", "v1.2.3"),
    ),
    "peft-internal-testing/tiny_T5ForSeq2SeqLM-lora": Repository(
        adapter_of="peft-internal-testing/tiny-random-t5",
        adapter={"task_type": "SEQ_2_SEQ_LM", "target_modules": ["q", "v"]},
    ),
    "stand-in/tiny-whisper": Repository(transformers.WhisperForConditionalGeneration, _WHISPER),
    "peft-internal-testing/tiny_WhisperForConditionalGeneration-lora": Repository(
        adapter_of="stand-in/tiny-whisper", adapter={"target_modules": ["q_proj", "v_proj"]}
    ),
    "peft-internal-testing/tiny_OPTForSequenceClassification-lora": Repository(
        transformers.OPTForSequenceClassification,
        adapter_of="peft-internal-testing/tiny-random-OPTForCausalLM",
        adapter={"task_type": "SEQ_CLS", "target_modules": ["q_proj", "v_proj"]},
    ),
    "peft-internal-testing/tiny_OPTForQuestionAnswering-lora": Repository(
        transformers.OPTForQuestionAnswering,
        adapter_of="peft-internal-testing/tiny-random-OPTForCausalLM",
        adapter={"task_type": "QUESTION_ANS", "target_modules": ["q_proj", "v_proj"]},
    ),
    "peft-internal-testing/tiny_OPTForFeatureExtraction-lora": Repository(
        transformers.OPTModel,
        adapter_of="peft-internal-testing/tiny-random-OPTForCausalLM",
        adapter={"task_type": "FEATURE_EXTRACTION", "target_modules": ["q_proj", "v_proj"]},
    ),
    "peft-internal-testing/tiny_GPT2ForTokenClassification-lora": Repository(
        transformers.GPT2ForTokenClassification,
        adapter_of="gpt2",
        adapter={"task_type": "TOKEN_CLS", "target_modules": ["c_attn"]},
    ),
    "peft-internal-testing/test-lora-subfolder": Repository(
        adapter_of="peft-internal-testing/tiny-random-OPTForCausalLM",
        adapter={"task_type": "CAUSAL_LM"},
        folder="test",
    ),
}

AdapterMaker = Callable[[Any, dict[str, Any]], Any]
"""Wraps a base model with an adapter of the method under test, given options of its config."""


def build_hub(folder: Path, make_adapter: AdapterMaker | None) -> list[str]:
    """Lay all repositories out as a cache of the Hub.

    Args:
        folder: What HF_HUB_CACHE is going to be.
        make_adapter: None leaves the adapters out.

    Returns:
        The repositories that could not be made, each with the error: a version of transformers without the
        architecture should cost the tests of that architecture, no more.
    """
    missing = []
    with _quiet():
        for name, repository in sorted(REPOSITORIES.items(), key=lambda item: bool(item[1].adapter_of)):
            try:
                for seed, revision in enumerate(repository.revisions):
                    _publish(folder, name, repository, revision, seed, make_adapter)
            except Exception as error:  # noqa: BLE001 whatever it is, it is told
                missing.append(f"{name}: {type(error).__name__}: {error}")
    return missing


def _publish(
    hub: Path, name: str, repository: Repository, revision: str, seed: int, make_adapter: AdapterMaker | None
) -> None:
    root = hub / f"models--{name.replace('/', '--')}"
    commit = hashlib.sha1(f"{name}@{revision}".encode(), usedforsecurity=False).hexdigest()
    snapshot = root / "snapshots" / commit
    if repository.adapter_of:
        if make_adapter is None:
            return
        _write_adapter(hub, snapshot / repository.folder, repository, seed, make_adapter)
    else:
        _write_model(snapshot, repository, seed)
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "refs" / revision).write_text(commit)


def _write_model(folder: Path, repository: Repository, seed: int) -> None:
    torch.manual_seed(seed)
    config = repository.model.config_class(**repository.config)
    model = repository.model(config)
    if repository.config.get("dtype") == "bfloat16":
        model = model.to(torch.bfloat16)
    model.save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)


def _write_adapter(hub: Path, folder: Path, repository: Repository, seed: int, make_adapter: AdapterMaker) -> None:
    base = REPOSITORIES[repository.adapter_of]
    snapshots = hub / f"models--{repository.adapter_of.replace('/', '--')}" / "snapshots"
    commit = hashlib.sha1(f"{repository.adapter_of}@main".encode(), usedforsecurity=False).hexdigest()
    model = (repository.model or base.model).from_pretrained(snapshots / commit)
    model.config._name_or_path = repository.adapter_of
    model.name_or_path = repository.adapter_of
    torch.manual_seed(seed)
    make_adapter(model, dict(repository.adapter)).save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    path = folder / "adapter_config.json"
    values = json.loads(path.read_text())
    values["base_model_name_or_path"] = repository.adapter_of
    path.write_text(json.dumps(values))


def small_tokenizer() -> Any:
    """A tokenizer of words: the special tokens, then what it has learnt; everything else is unknown."""
    words = ["the", "a", "is", "to", "be", "or", "not", "that", "question", "life", "in", "you", "we", "live", "this"]
    vocabulary = {token: index for index, token in enumerate([*_SPECIAL.values(), *words])}
    vocabulary |= {f"w{index}": index for index in range(len(vocabulary), VOCABULARY)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=_SPECIAL["unk_token"]))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=64, **_SPECIAL)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars and notes about freshly made weights."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for line in build_hub(Path(name), None):
            print(line)  # noqa: T201
