"""What several commands need: options, models, texts and output."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hf_langcore.errors import ArtifactExistsError, InputError, LangCoreError

MINI = "mini"
MINI_SENTENCES = 2000


def _device(value: str | None) -> str | None:
    """The value of --device, if tensors can be made there."""
    if value is None:
        return None
    import torch

    try:
        if torch.device(value).type == "meta":
            raise typer.BadParameter("'meta' holds no values. Use cpu or cuda.")
        torch.empty(1, device=value)
    except (RuntimeError, AssertionError, ImportError, ValueError) as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise typer.BadParameter(f"{value!r} cannot be used here: {reason}") from error
    return value


def _languages(value: str | None) -> str | None:
    if value is not None and not codes(value):
        raise typer.BadParameter("--languages is empty. Name codes such as ar,es,ru, or leave it out for all.")
    return value


def codes(value: str | None) -> list[str] | None:
    """A comma-separated list of names; None where nothing is given."""
    return None if value is None else [code.strip() for code in value.split(",") if code.strip()]


Model = Annotated[str, typer.Argument(help="Folder or Hub id of a language model.")]
Data = Annotated[
    str,
    typer.Option(
        help="Texts: a folder with one file per language (en.txt, zh.jsonl, ...), or 'mini', the built-in corpus."
    ),
]
Languages = Annotated[
    str | None,
    typer.Option(help="Language codes, separated by commas, such as ar,es,ru. All if not given.", callback=_languages),
]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="At most so many tokens per language.")]
BlockSize = Annotated[int, typer.Option(min=3, help="Tokens per block, BOS included; at most the model's context.")]
BatchSize = Annotated[str, typer.Option(help="Blocks per batch: 'auto' or a number.")]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"], typer.Option(help="Of the weights; 'auto' is as saved.")
]
Device = Annotated[str | None, typer.Option(help="Such as cuda or cpu; the GPU if there is one.", callback=_device)]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of the model on the Hub.")]
MaskSource = Annotated[str, typer.Argument(metavar="CORE_MASK", help="Folder or Hub id of a core mask.")]
MaskRevision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of the core mask on the Hub; the newest if not given.")
]
BaseCheck = Annotated[
    Literal["error", "warn", "off"], typer.Option(help="What to do when the mask was found on other weights.")
]
ReportFile = Annotated[Path | None, typer.Option("--output", "-o", help="Also write the table as .json or .md.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]


def load_encoder(name: str, *, device: str | None) -> tuple[Any, Any]:
    """An encoder with its masked-language-modelling head, in float32 and eval mode, and its tokenizer.

    Raises:
        InputError: transformers cannot load it.
    """
    from transformers import AutoModelForMaskedLM

    return load_model(name, dtype="float32", device=device, revision=None, choose=lambda _: AutoModelForMaskedLM)


def load_text_model(name: str, *, dtype: str, device: str | None, revision: str | None) -> tuple[Any, Any]:
    """An encoder without head or a language model, as its config says, in eval mode, and its tokenizer.

    Raises:
        InputError: transformers cannot load it.
    """
    from transformers import AutoModel

    from hf_langcore.auto import auto_class_of
    from hf_langcore.probing.stacks import is_encoder

    def choose(config: Any) -> Any:
        return AutoModel if is_encoder(config) else auto_class_of(config)

    return load_model(name, dtype=dtype, device=device, revision=revision, choose=choose)


def load_model(
    name: str,
    *,
    dtype: str,
    device: str | None,
    revision: str | None,
    choose: Callable[[Any], Any] | None = None,
) -> tuple[Any, Any]:
    """A causal LM or an encoder-decoder model in eval mode, and its tokenizer.

    Args:
        name: Folder or Hub id.
        dtype: Of the weights, or "auto".
        device: Where it is put; the GPU if there is one.
        revision: Branch, tag or commit.
        choose: Config -> auto class, for models of other kinds.

    Raises:
        InputError: transformers cannot load it; its own message is part of the text.
    """
    import torch
    from transformers import AutoTokenizer, logging

    from hf_langcore.auto import auto_class_for, auto_class_of
    from hf_langcore.hub.fetch import commit_of
    from hf_langcore.masks.origin import is_repository_id

    logging.disable_progress_bar()  # type: ignore[no-untyped-call,unused-ignore]
    try:
        # transformers forgets which commit it loaded, and a mask or a figure has to name it.
        commit = commit_of(name, revision) if is_repository_id(name) else None
        pinned = commit or revision or "main"
        auto_class = auto_class_for(name, revision=pinned, choose=choose or auto_class_of)
        model = auto_class.from_pretrained(name, dtype=dtype, revision=pinned)
        tokenizer = AutoTokenizer.from_pretrained(name, revision=pinned)
    except (OSError, ValueError) as error:
        raise InputError(
            f"Cannot load the model {name!r}: {error} Pass a folder written by save_pretrained (model and tokenizer), or a "
            "Hub id."
        ) from error
    if commit is not None:
        model.config._commit_hash = commit  # noqa: SLF001 where transformers used to keep it
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval(), tokenizer


def pinned_revision(name: str, core_mask: Any) -> str | None:
    """The commit of a model that a mask was found on, where it was found on this repository.

    Newer commits may differ in no more than a card, but only this one is known to have the mask's weights.
    """
    source = core_mask.provenance
    return source.base_revision if source.base_model == name else None


def load_corpora(data: str, languages: str | None, *, start: int = 0) -> dict[str, Any]:
    """Language -> texts, from a folder or from the mini corpus.

    Args:
        data: Folder, or "mini".
        languages: Comma-separated codes, or None for all.
        start: First sentence of the mini corpus, so that commands which measure use other sentences than those which
            search.
    """
    chosen = codes(languages)
    if data == MINI:
        from hf_langcore.data.mini import mini_corpora

        return dict(mini_corpora(chosen, sentences=MINI_SENTENCES, start=start))
    from hf_langcore.data import corpora_from_folder

    return dict(corpora_from_folder(data, chosen))


def number_or_auto(value: str) -> Any:
    """The value of --batch-size.

    Raises:
        typer.BadParameter: It is neither.
    """
    if value == "auto":
        return value
    if not value.isdecimal() or int(value) < 1:
        raise typer.BadParameter(
            f"expected 'auto' or a whole number of at least 1, got {value!r}", param_hint="--batch-size"
        )
    return int(value)


def numbers(value: str, option: str) -> list[float]:
    """A comma-separated list of numbers.

    Raises:
        typer.BadParameter: It is none.
    """
    try:
        return [float(part) for part in value.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"expected numbers separated by commas, got {value!r}", param_hint=option) from error


def whole_numbers(value: str | None, option: str) -> list[int] | None:
    """A comma-separated list of whole numbers; None where nothing is given."""
    names = codes(value)
    if names is None:
        return None
    if not names or not all(name.isdecimal() for name in names):
        raise typer.BadParameter(f"expected whole numbers separated by commas, got {value!r}", param_hint=option)
    return [int(name) for name in names]


def require_output(output: Path | None, *, folder: bool = False, overwrite: bool = False) -> None:
    """Refuse an output that cannot be written, before the work that would be lost.

    Args:
        output: File or folder, or None for no output.
        folder: It is to be a folder, which has to be empty or missing unless `overwrite` is given.
        overwrite: Write into a folder that is not empty.

    Raises:
        ArtifactExistsError: Something is there that must not be replaced.
        InputError: The place cannot be written to.
    """
    if output is None:
        return
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            output.lstat()  # a name that is too long, or a folder that may not be entered
        if output.exists():
            _require_free(output, folder=folder, overwrite=overwrite)
        place = output.absolute() if folder else output.absolute().parent
        while not place.exists():
            place = place.parent
        with tempfile.TemporaryFile(dir=place):
            pass
    except LangCoreError:
        raise
    except OSError as error:
        raise InputError(
            f"Cannot write to {str(output)!r}: {error.strerror or error}. Name a place where you may write."
        ) from error


def _require_free(output: Path, *, folder: bool, overwrite: bool) -> None:
    if not folder:
        if not output.is_file():
            raise ArtifactExistsError(f"{str(output)!r} is no file. Name one such as report.json or report.md.")
    elif not output.is_dir():
        raise ArtifactExistsError(f"{str(output)!r} exists and is no folder. Name a new folder.")
    elif not overwrite and any(output.iterdir()):
        raise ArtifactExistsError(f"{str(output)!r} exists and is not empty. Name a new folder or pass --overwrite.")


def only_json(*, as_json: bool) -> contextlib.AbstractContextManager[Any]:
    """While this is open, what libraries print goes to standard error, so that standard output is JSON alone."""
    return contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()


def show(value: Any, *, as_json: bool, rendered: Any) -> None:
    """Print `value` as JSON, with "nan" and "inf" for what JSON cannot say, or `rendered` for people."""
    if as_json:
        print(json.dumps(_json(value), indent=2, ensure_ascii=False, allow_nan=False))
    elif isinstance(rendered, str):
        print(rendered)
    else:
        from rich.console import Console

        Console(soft_wrap=False).print(rendered)


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def write_report(report: Any, output: Path | None) -> None:
    """Write a PerplexityReport as JSON, or as Markdown where the name ends in .md."""
    if output is None:
        return
    from hf_langcore.files import replace_text

    replace_text(output, report.to_markdown() if output.suffix == ".md" else report.to_json())
