"""The paper's table on a real model and real text: zero 1, 3 and 5 % of the weights, look at every language.

LANGCORE_MODEL names the folder of a causal LM, LANGCORE_DATA a folder with train/ and test/, each with one file per
language. A killed run goes on where it was. `--write docs/results.md` writes the page that the project commits.
"""

import os
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_langcore.data import corpora_from_folder
from hf_langcore.files import replace_text
from hf_langcore.recipes.language_table import PAPER_LANGUAGES, FractionTable, language_table, to_markdown
from hf_langcore.recipes.protection.page import MARKER as PROTECTION_MARKER

BLOCK_SIZE = 128
CORE_TOKENS = 96 * BLOCK_SIZE
TEST_TOKENS = int(os.environ.get("LANGCORE_TEST_TOKENS", "4096"))
EXPECTED_HARM = 5.0

PAGE = """# Results on a real model

A Llama of {parameters:.2f} million parameters, trained from scratch on real text in 30 languages, and held-out documents \
of the same 30 languages (NTREX-128). The core comes from six languages ({languages}), {core_tokens:,} tokens each, by \
`taylor`; then regions are set to zero, measured on up to {test_tokens:,} tokens a language (windows of {block} tokens), \
and restored. Made by

    make results

with LANGCORE_MODEL and LANGCORE_DATA set (versions as in `constraints.txt`, float32, CPU; resumable; {seconds}).

**harm** is the rise of the loss (nats per token) under `top` divided by the mean rise under five random regions of the \
same size. Perplexities are token-weighted; means over languages are geometric. `magnitude` zeroes the largest weights.

{verdict}

{tables}"""


def verdict(table: FractionTable) -> str:
    """One sentence per fraction, misses named."""
    below = [language for language, ratio in table.harm.items() if not ratio > EXPECTED_HARM]
    count = len(table.harm)
    misses = f"; not in {', '.join(below)}" if below else ""
    smallest = min(table.harm.values())
    return (
        f"- {100 * table.fraction:g} %: harm above {EXPECTED_HARM:g} in {count - len(below)} of {count} languages{misses}; "
        f"smallest {smallest:.1f}."
    )


def main() -> None:
    """Run the experiment and print or write the page."""
    if "LANGCORE_MODEL" not in os.environ or "LANGCORE_DATA" not in os.environ:
        sys.exit(__doc__)
    model_path, data = os.environ["LANGCORE_MODEL"], Path(os.environ["LANGCORE_DATA"])
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    start = time.perf_counter()
    tables = language_table(
        model,
        tokenizer,
        corpora_from_folder(data / "train", PAPER_LANGUAGES),
        corpora_from_folder(data / "test"),
        block_size=BLOCK_SIZE,
        core_tokens=CORE_TOKENS,
        test_tokens=TEST_TOKENS,
        resume_dir=os.environ.get("LANGCORE_RESUME", "out/thirty-languages"),
    )
    page = PAGE.format(
        parameters=sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        languages=" ".join(PAPER_LANGUAGES),
        core_tokens=CORE_TOKENS,
        test_tokens=TEST_TOKENS,
        block=BLOCK_SIZE,
        seconds=f"{time.perf_counter() - start:.0f} seconds on two shared cores",
        verdict="\n".join(map(verdict, tables)),
        tables="\n".join(f"## {100 * table.fraction:g} %\n\n{to_markdown(table)}" for table in tables),
    )
    if "--write" in sys.argv:
        target = Path(sys.argv[sys.argv.index("--write") + 1])
        _, marker, other = (target.read_text(encoding="utf-8") if target.is_file() else "").partition(
            PROTECTION_MARKER
        )
        replace_text(
            target, f"{page.rstrip()}\n\n{marker}{other}" if marker else page
        )  # `make protection` writes the rest
    print(page)


if __name__ == "__main__":
    main()
