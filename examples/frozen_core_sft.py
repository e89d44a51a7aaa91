"""Fine-tune every weight but the core with TRL, and mix general data in.

Runs offline in a minute or two: a tiny Llama, a small task, and the built-in corpus as general data.
"""

import tempfile

from datasets import Dataset

from hf_langcore import (
    CoreRegionSFTConfig,
    CoreRegionSFTTrainer,
    PerplexityReport,
    compute_core_mask,
    evaluate_perplexity,
)
from hf_langcore.data.mini import mini_corpora
from hf_langcore.recipes.bits import copy_weights, count_changed
from hf_langcore.recipes.pretraining import TinyModel, pretrain


def main() -> None:
    """Train with the core frozen, then look at the bits and at the languages."""
    model, tokenizer = pretrain(mini_corpora(sentences=1000), shape=TinyModel(steps=300))
    core_mask = compute_core_mask(model, tokenizer, mini_corpora(sentences=200), fraction=0.03, block_size=128)
    held_out = mini_corpora(sentences=80, start=1000)
    before = evaluate_perplexity(model, tokenizer, held_out)
    weights = copy_weights(model, core_mask)

    task = Dataset.from_list(
        [{"prompt": f"{a} + {b} =", "completion": f" {a + b}"} for a in range(16) for b in range(8)]
    )
    texts = mini_corpora(sentences_per_document=2, sentences=160)  # all languages: what is not mixed in is forgotten
    general = Dataset.from_dict({"text": [text for documents in texts.values() for text in documents]})
    with tempfile.TemporaryDirectory() as folder:
        args = CoreRegionSFTConfig(
            output_dir=folder,
            learning_rate=5e-4,
            weight_decay=0.1,
            per_device_train_batch_size=16,
            num_train_epochs=1,
            general_data_ratio=5.0,
            max_length=128,
            bf16=False,
            use_cpu=True,
            activation_checkpointing=False,
            save_strategy="no",
            report_to="none",
        )
        trainer = CoreRegionSFTTrainer(
            model=model,
            args=args,
            train_dataset=task,
            general_dataset=general,
            processing_class=tokenizer,
            core_mask=core_mask,
        )
        trainer.train()

    changed = count_changed(model, weights, core_mask)
    print(f"core weights changed: {changed.core}, other weights changed: {changed.complement:,}")
    after = evaluate_perplexity(model, tokenizer, held_out)
    print(PerplexityReport.compare({"before": before, "after": after}))


if __name__ == "__main__":
    main()
