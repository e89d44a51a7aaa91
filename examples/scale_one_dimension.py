"""Multiply single norm weights by a factor and watch perplexity: most do nothing, a few hurt.

Runs offline in a minute or two on a tiny Llama that is trained on the built-in corpus.
"""

from hf_langcore import PerplexityReport, evaluate_perplexity, find_critical_dimensions, scale_dimension
from hf_langcore.data.mini import mini_corpora
from hf_langcore.recipes.pretraining import TinyModel, pretrain


def main() -> None:
    """Scan, then look at the strongest dimension more closely."""
    model, tokenizer = pretrain(mini_corpora(sentences=1000), shape=TinyModel(steps=300))
    held_out = mini_corpora(["en", "ru", "zh"], sentences=80, start=1000)

    scan = find_critical_dimensions(model, tokenizer, held_out, kinds="norm", candidates=48, max_tokens=256)
    print(scan)

    strongest = scan.measured[0]  # the scan itself lists critical ones only, of which a model may have none
    reports = {"base": evaluate_perplexity(model, tokenizer, held_out)}
    for factor in (0, 2, 4, 10):
        with scale_dimension(model, strongest.parameter, strongest.index, factor=factor):
            reports[f"x{factor}"] = evaluate_perplexity(model, tokenizer, held_out)
    print(PerplexityReport.compare(reports))


if __name__ == "__main__":
    main()
