"""Train a small multilingual encoder on real text by masked language modelling, and save it.

    LANGCORE_DATA=path/to/ntrex python examples/train_encoder.py --output out/encoder --steps 5000

LANGCORE_DATA names a folder with train/ and test/, one file per language; without it the built-in corpus is used. A
run that was killed goes on from OUTPUT.training when it is started again. At the end the loss on masked tokens of
held-out text is printed per language, beside that of a model that knows the frequency of tokens only.
"""

import argparse
import os
from pathlib import Path

from hf_langcore.data import corpora_from_folder
from hf_langcore.data.mini import mini_corpora
from hf_langcore.files import new_folder
from hf_langcore.recipes.encoder import TinyEncoder, pretrain_encoder
from hf_langcore.recipes.masking import masked_loss


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of the model and its tokenizer")
    parser.add_argument("--languages", help="such as en,de,tr; all of the folder if not given")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--vocabulary", type=int, default=6144)
    parser.add_argument("--block-size", type=int, default=64, help="tokens per block")
    parser.add_argument("--batch-size", type=int, default=32, help="blocks per step")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--mask-share", type=float, default=0.25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16")
    return parser.parse_args()


def texts(part: str, languages: str | None) -> dict[str, object]:
    """Language -> texts of the training or test part."""
    data = os.environ.get("LANGCORE_DATA")
    mini = mini_corpora(sentences=4000) if part == "train" else mini_corpora(sentences=160, start=4000)
    found = corpora_from_folder(Path(data) / part) if data else mini
    return {one: found[one] for one in languages.split(",")} if languages else dict(found)


def shape(chosen: argparse.Namespace) -> TinyEncoder:
    """Size and training as chosen; the feed-forward layers are twice, the heads a 32nd of the width."""
    return TinyEncoder(
        vocab_size=chosen.vocabulary,
        hidden_size=chosen.width,
        intermediate_size=2 * chosen.width,
        layers=chosen.layers,
        heads=max(1, chosen.width // 32),
        block_size=chosen.block_size,
        batch_size=chosen.batch_size,
        steps=chosen.steps,
        learning_rate=chosen.learning_rate,
        mask_share=chosen.mask_share,
        bf16=chosen.bf16,
        seed=chosen.seed,
    )


def main() -> None:
    """Train, save, measure on held-out text."""
    chosen = arguments()
    state = chosen.output.with_name(chosen.output.name + ".training")
    model, tokenizer = pretrain_encoder(texts("train", chosen.languages), shape=shape(chosen), folder=state)
    with new_folder(chosen.output, overwrite=True, last="config.json", stale=r".*\.safetensors") as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    print(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters")
    found = masked_loss(model, tokenizer, texts("test", chosen.languages), block_size=chosen.block_size)
    for language, loss in found.items():
        print(
            f"{language}  {loss.nats:.3f} nats per masked token ({loss.tokens}); frequencies alone {loss.unigram:.3f}"
        )


if __name__ == "__main__":
    main()
