"""Find the core of a model, wrap the model with PEFT, break the core, see every language suffer, undo it.

Runs offline in a minute or two: a tiny Llama is trained on the built-in corpus. With your own model use
`CoreRegionModel.from_pretrained("my-model", core_mask="my-core")` and texts of your own.
"""

from peft import get_peft_model

from hf_langcore import CoreRegionConfig, PerplexityReport, compute_core_mask, evaluate_perplexity
from hf_langcore.data.mini import mini_corpora
from hf_langcore.recipes.pretraining import TinyModel, pretrain


def main() -> None:
    """Find, wrap, edit, measure."""
    base, tokenizer = pretrain(mini_corpora(sentences=1000), shape=TinyModel(steps=300))

    core_texts = mini_corpora(["ar", "es", "ru", "zh", "ko", "vi"], sentences=400)
    core_mask = compute_core_mask(base, tokenizer, core_texts, fraction=0.03, block_size=128)
    print(core_mask)
    for dimension in core_mask.dimensions(limit=3):
        print(f"  concentrates in {dimension.parameter}, axis {dimension.axis}, index {dimension.index}")

    model = get_peft_model(base, CoreRegionConfig(core_mask=core_mask, r=8, task_type="CAUSAL_LM"))
    held_out = mini_corpora(sentences=80, start=1000)
    reports = {"base": evaluate_perplexity(model, tokenizer, held_out)}
    for region in ("core", "random"):
        with model.perturb(region, how="zero"):
            reports[f"{region} zeroed"] = evaluate_perplexity(model, tokenizer, held_out)
    reports["restored"] = evaluate_perplexity(model, tokenizer, held_out)
    print(PerplexityReport.compare(reports))


if __name__ == "__main__":
    main()
