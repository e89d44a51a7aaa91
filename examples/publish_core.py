"""Find the core of a model on the Hub and publish it: mask, card and figures in one commit.

    python examples/publish_core.py org/model me/model-core --data texts/ --languages ar,es,ru,zh,ko,vi

Log in first (`hf auth login`). `--data` is a folder with one text file per language; without it the built-in corpus
stands in, which is good enough to try the command and no more. One half of the documents finds the core, the other one
measures what it does.
"""

import argparse

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_langcore import PerplexityReport, compute_core_mask, evaluate_perplexity, perturb
from hf_langcore.data import corpora_from_folder, read_texts
from hf_langcore.data.mini import mini_corpora


def main() -> None:
    """Find, measure, push."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="repository of the model")
    parser.add_argument("repo_id", help="repository for the mask; made if it is missing")
    parser.add_argument("--data", help="folder with one text file per language")
    parser.add_argument("--languages", help="codes, separated by commas; all if not given")
    parser.add_argument("--fraction", type=float, default=0.03)
    parser.add_argument("--block-size", type=int, default=512)
    parser.add_argument("--max-tokens", type=int, default=100_000, help="per language")
    parser.add_argument("--license", help="of the mask; the model's if not given")
    parser.add_argument("--private", action="store_true")
    options = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(options.model).to(device)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    languages = options.languages.split(",") if options.languages else None
    texts = {
        language: list(read_texts(language, source))
        for language, source in (
            corpora_from_folder(options.data, languages) if options.data else mini_corpora(languages, sentences=400)
        ).items()
    }
    searched = {language: documents[0::2] for language, documents in texts.items()}
    held_out = {language: documents[1::2] for language, documents in texts.items()}
    sizes = {"block_size": options.block_size, "max_tokens": options.max_tokens}

    core_mask = compute_core_mask(model, tokenizer, searched, fraction=options.fraction, **sizes)
    reports = {"base": evaluate_perplexity(model, tokenizer, held_out, **sizes)}
    for name, region in (("core zeroed", core_mask), ("random zeroed", core_mask.random_like(seed=0))):
        with perturb(model, region, how="zero"):
            reports[name] = evaluate_perplexity(model, tokenizer, held_out, on_nonfinite="inf", **sizes)
    report = PerplexityReport.compare(reports)
    print(core_mask)
    print(report)

    commit = core_mask.push_to_hub(
        options.repo_id, results=report, license=options.license, private=options.private or None
    )
    print(f"published: {commit.commit_url}")


if __name__ == "__main__":
    main()
