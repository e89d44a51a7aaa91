"""What must be exact, checked on a real model: the mask, and the frozen core.

LANGCORE_MODEL names the folder of a causal LM, LANGCORE_DATA a folder with train/, one file per language.
`--write docs/exactness.md` replaces this part of the page that the project commits; `make matrix` writes the other one.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from peft import get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_langcore import CoreMask, CoreRegionConfig, CoreRegionSFTConfig, CoreRegionSFTTrainer, compute_core_mask
from hf_langcore.data import corpora_from_folder, pack_blocks, read_texts, start_token
from hf_langcore.files import replace_text
from hf_langcore.recipes.bits import copy_weights, count_changed

MODEL, DATA = os.environ["LANGCORE_MODEL"], Path(os.environ["LANGCORE_DATA"]) / "train"
LANGUAGES, BLOCK, TOKENS, BATCH = ("ar", "zh"), 128, 16 * 128, 4
OPTIONS = {"block_size": BLOCK, "max_tokens": TOKENS, "batch_size": BATCH}
MARK = "<!-- exactness: everything from here to the next mark or the end is written by `make exactness` -->"


def published(model, tokenizer) -> dict[str, torch.Tensor]:  # noqa: ANN001 an example
    """The published importance, written plainly: backward over all batches, grad x weight, abs, sum over languages."""
    total: dict[str, torch.Tensor] = {}
    for language, path in corpora_from_folder(DATA, LANGUAGES).items():
        texts, start = read_texts(language, path), start_token(tokenizer)
        blocks = pack_blocks(language, texts, tokenizer, start=start, block_size=BLOCK, max_tokens=TOKENS)
        model.zero_grad()
        for batch in blocks.split(BATCH):
            model(input_ids=batch, labels=batch).loss.backward()
        for name, weight in model.named_parameters():
            if "layers." in name:
                total[name] = total.get(name, 0) + (weight.grad * weight).detach().abs()
    model.zero_grad()
    return total


def same_as_published(model, tokenizer) -> list[str]:  # noqa: ANN001 an example
    """Entries that differ from a topk over each flattened tensor."""
    scores, lines = published(model, tokenizer), []
    for fraction in (0.01, 0.03, 0.05):
        mask = compute_core_mask(model, tokenizer, corpora_from_folder(DATA, LANGUAGES), fraction=fraction, **OPTIONS)
        different = 0
        for name, values in scores.items():
            expected = torch.zeros(values.numel(), dtype=torch.bool)
            expected[values.flatten().topk(int(fraction * values.numel())).indices] = True
            different += int((expected.view(values.shape) != mask[name]).sum())
        lines.append(f"| {100 * fraction:g} % | {mask.count():,} | {different} |")
    return lines


def three_ways(model, tokenizer, folder: str) -> list[str]:  # noqa: ANN001 an example
    """The digest of the mask from Python, through PEFT, and from the command line."""
    corpora = corpora_from_folder(DATA, LANGUAGES)
    mask = compute_core_mask(model, tokenizer, corpora, fraction=0.03, **OPTIONS)
    wrapped = get_peft_model(model, CoreRegionConfig(core_mask=mask, r=4, task_type="CAUSAL_LM"))
    through_peft = compute_core_mask(wrapped, tokenizer, corpora, fraction=0.03, **OPTIONS)
    command = (
        f"find {MODEL} -o {folder}/core --data {DATA} --languages {','.join(LANGUAGES)} --fraction 0.03 --device cpu"
    )
    command += f" --block-size {BLOCK} --max-tokens {TOKENS} --batch-size {BATCH} --dtype float32 -q"
    subprocess.run([sys.executable, "-m", "hf_langcore", *command.split()], check=True)  # noqa: S603 our own command
    digests = {"Python": mask, "PEFT": through_peft, "langcore find": CoreMask.from_pretrained(f"{folder}/core")}
    return [f"| {name} | `{found.digest()}` |" for name, found in digests.items()]


def frozen(dtype: torch.dtype, tokenizer, folder: str) -> str:  # noqa: ANN001 an example
    """30 steps of AdamW with weight decay 0.1 on Chinese."""
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=dtype)
    mask = compute_core_mask(model, method="magnitude", fraction=0.03)
    before = copy_weights(model, mask)
    args = CoreRegionSFTConfig(
        output_dir=folder, max_steps=30, learning_rate=5e-4, weight_decay=0.1, per_device_train_batch_size=8,
        max_length=BLOCK, use_cpu=True, bf16=False, activation_checkpointing=False, save_strategy="no", report_to="none",
    )  # fmt: skip
    texts = [text for document in read_texts("zh", DATA / "zh.txt") for text in document.split("。")]
    rows = Dataset.from_dict({"text": [text for text in texts if text]})
    CoreRegionSFTTrainer(
        model=model, args=args, train_dataset=rows, processing_class=tokenizer, core_mask=mask
    ).train()
    changed = count_changed(model, before, mask)
    return f"| {str(dtype)[6:]} | {mask.count():,} | {changed.core} | {changed.complement:,} |"


def main() -> None:
    """Run the checks and print or write the page."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    with tempfile.TemporaryDirectory() as folder:
        model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
        page = [
            f"## The published algorithm ({' '.join(LANGUAGES)}, {TOKENS:,} tokens each, fp32)", "",
            "| fraction | core weights | entries that differ |", "| --- | ---: | ---: |",
            *same_as_published(model, tokenizer), "",
            "## The same job three ways (3 %)", "", "| way | digest of the mask |", "| --- | --- |",
            *three_ways(model, tokenizer, folder), "",
            "## Frozen core: 30 steps of AdamW, weight decay 0.1, on Chinese; counted on bits", "",
            "| dtype | core weights | core changed | other weights changed |", "| --- | ---: | ---: | ---: |",
            *(frozen(dtype, tokenizer, folder) for dtype in (torch.float32, torch.bfloat16)), "",
        ]  # fmt: skip
    print("\n".join(page))
    if "--write" in sys.argv:
        rewrite(Path(sys.argv[sys.argv.index("--write") + 1]), "\n".join(page))


def rewrite(path: Path, text: str) -> None:
    """Replace what is below this part's mark; the rest of the page stays."""
    page = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, _, after = page.partition(MARK)
    replace_text(path, f"{before.rstrip()}\n\n{MARK}\n\n{text}{''.join(after.partition('<!-- ')[1:])}".lstrip())


if __name__ == "__main__":
    main()
