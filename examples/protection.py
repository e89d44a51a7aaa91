"""What is learned against what is kept: ways of fine-tuning on two tasks, three seeds, as tables and figures.

LANGCORE_MODEL names the folder of a causal LM, LANGCORE_DATA a folder with train/ and test/, each with one file per
language. Each finished run is one JSON file below `--output`; a killed command goes on where it was, and a second one
with other `--seeds` or `--tasks` may share the folder. `--write docs/results.md` fills the page below its marker and
draws the figures beside it.
"""

import argparse
import os
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_langcore.data import corpora_from_folder
from hf_langcore.recipes.protection.methods import standard_methods
from hf_langcore.recipes.protection.page import TITLES, write_protection_page
from hf_langcore.recipes.protection.runs import run_protection
from hf_langcore.recipes.protection.shields import compute_shields
from hf_langcore.recipes.protection.tasks import arithmetic_task, language_task


def main() -> None:
    """Run what is missing, print each run, and write tables and figures where that is asked for."""
    options = arguments()
    if "LANGCORE_MODEL" not in os.environ or "LANGCORE_DATA" not in os.environ:
        sys.exit(__doc__)
    model = AutoModelForCausalLM.from_pretrained(os.environ["LANGCORE_MODEL"], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(os.environ["LANGCORE_MODEL"])
    train, test = (corpora_from_folder(Path(os.environ["LANGCORE_DATA"]) / part) for part in ("train", "test"))
    tasks = []
    for name in options.tasks:
        is_sums = name == "arithmetic"
        task = arithmetic_task(tokenizer, train, test) if is_sums else language_task(tokenizer, name, train, test)
        kept = options.output / "importance"
        tasks.append((task, compute_shields(model, tokenizer, train, task.source, resume_dir=kept, progress=False)))
    runs = run_protection(model, tokenizer, tasks, standard_methods(), output=options.output, seeds=options.seeds)
    if options.write:
        write_protection_page(options.write, runs)


def arguments() -> argparse.Namespace:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out/protection"), help="folder of the runs")
    parser.add_argument("--tasks", nargs="+", default=list(TITLES), choices=list(TITLES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--write", type=Path, help="page to fill below its marker")
    return parser.parse_args()


if __name__ == "__main__":
    main()
