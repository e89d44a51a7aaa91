"""Train a tiny multilingual Llama from scratch on real text, one file per language, and save it.

    LANGCORE_DATA=path/to/ntrex python examples/pretrain_tiny.py out/tiny-llama [steps]

LANGCORE_DATA names a folder with train/ and test/; without it the built-in corpus is used. More steps and a larger
shape give a better model: 3,000 steps of this shape take about an hour on two cores.
"""

import os
import sys
from pathlib import Path

from hf_langcore import evaluate_perplexity
from hf_langcore.data import corpora_from_folder
from hf_langcore.data.mini import mini_corpora
from hf_langcore.recipes.pretraining import TinyModel, pretrain


def main() -> None:
    """Train, measure on held-out text, save."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    output, steps = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3000
    data = os.environ.get("LANGCORE_DATA")
    train = corpora_from_folder(Path(data) / "train") if data else mini_corpora(sentences=4000)
    held_out = corpora_from_folder(Path(data) / "test") if data else mini_corpora(sentences=160, start=4000)
    shape = TinyModel(vocab_size=4096, hidden_size=192, intermediate_size=512, layers=6, heads=6, steps=steps)
    model, tokenizer = pretrain(train, shape=shape)
    print(evaluate_perplexity(model, tokenizer, held_out, max_tokens=2048))
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


if __name__ == "__main__":
    main()
