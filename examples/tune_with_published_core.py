"""Fine-tune with a core that somebody has published, and publish what came of it with its figures.

    python examples/tune_with_published_core.py me/model-core me/model-tuned --task task.jsonl
    python examples/tune_with_published_core.py me/model-core me/model-adapter --task task.jsonl --adapter-rank 16

The base model is loaded at the commit that the mask is pinned to. Without `--adapter-rank` all weights but the core are
trained in place; with it a PEFT adapter that never touches the core. `--data` is a folder with one text file per language
on which the result is measured; without it the built-in corpus stands in, and so do sums for the task.
"""

import argparse
import tempfile

import torch
from datasets import Dataset, load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_langcore import (
    CoreMask,
    CoreRegionConfig,
    CoreRegionSFTConfig,
    CoreRegionSFTTrainer,
    evaluate_perplexity,
    perturb,
    push_eval_results,
)
from hf_langcore.data import corpora_from_folder
from hf_langcore.data.mini import mini_corpora


def main() -> None:
    """Pull, look at the damage that the core can do, train, push."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("core_mask", help="repository of the mask")
    parser.add_argument("repo_id", help="repository for the result; made if it is missing")
    parser.add_argument("--task", help="training rows, .jsonl")
    parser.add_argument("--data", help="folder with one text file per language")
    parser.add_argument("--adapter-rank", type=int)
    parser.add_argument("--max-steps", type=int, default=100)
    parser.add_argument("--max-tokens", type=int, default=20_000, help="per language, to measure with")
    options = parser.parse_args()

    core_mask = CoreMask.from_pretrained(options.core_mask)
    base = {
        "pretrained_model_name_or_path": core_mask.provenance.base_model,
        "revision": core_mask.provenance.base_revision,
    }
    model, tokenizer = AutoModelForCausalLM.from_pretrained(**base), AutoTokenizer.from_pretrained(**base)
    print(f"{core_mask!r}\nfrom {core_mask.origin}, of {base['pretrained_model_name_or_path']} at {base['revision']}")

    texts = corpora_from_folder(options.data) if options.data else mini_corpora(["en", "zh"], sentences=40, start=400)
    with perturb(model, core_mask, how="zero"):
        harmed = evaluate_perplexity(model, tokenizer, texts, max_tokens=options.max_tokens, on_nonfinite="inf")
    whole = evaluate_perplexity(model, tokenizer, texts, max_tokens=options.max_tokens)
    print(f"perplexity (geometric mean): {whole.mean():.4g}, with the core zeroed {harmed.mean():.4g}")

    sums = [{"prompt": f"{a} + {b} =", "completion": f" {a + b}"} for a in range(8) for b in range(8)]
    task = load_dataset("json", data_files=options.task, split="train") if options.task else Dataset.from_list(sums)
    rank = options.adapter_rank
    has_gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as folder:
        trainer = CoreRegionSFTTrainer(
            model=model,
            processing_class=tokenizer,
            args=CoreRegionSFTConfig(
                folder,
                max_steps=options.max_steps,
                save_strategy="no",
                report_to="none",
                hub_model_id=options.repo_id,
                use_cpu=not has_gpu,
                bf16=has_gpu,
            ),
            train_dataset=task,
            core_mask=core_mask if rank is None else None,
            peft_config=None
            if rank is None
            else CoreRegionConfig(core_mask=core_mask, r=rank, lora_alpha=rank, task_type="CAUSAL_LM"),
        )
        trainer.train()
        report = evaluate_perplexity(trainer.model, tokenizer, texts, max_tokens=options.max_tokens, condition="tuned")
        print(report)
        pushed = trainer.push_to_hub()
    push_eval_results(report, options.repo_id, model=options.repo_id, core_mask=core_mask)
    print(f"published: {pushed.commit_url}")


if __name__ == "__main__":
    main()
