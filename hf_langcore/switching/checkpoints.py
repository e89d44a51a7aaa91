"""Code-switching over the checkpoints of a training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_langcore.errors import InputError
from hf_langcore.files import json_text
from hf_langcore.printing import printed
from hf_langcore.switching.judging import Criteria
from hf_langcore.switching.rate import code_switching_rate
from hf_langcore.switching.report import Rate, SwitchingReport


@dataclass(frozen=True, slots=True)
class SwitchingCurve:
    """Reports of checkpoints.

    Attributes:
        reports: Name of the checkpoint -> report, in the order in which they were given.
    """

    reports: Mapping[str, SwitchingReport]

    def rates(self, language: str | None = None) -> dict[str, Rate]:
        """Checkpoint -> share that leaves the prompt's language; of all languages together if None."""
        return {name: report.rate(language) for name, report in self.reports.items()}

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: report.to_dict() for name, report in self.reports.items()}

    def to_json(self, path: str | Path | None = None) -> str:
        """As JSON text; also written to `path` where one is given."""
        return json_text(self.to_dict(), path, indent=1)

    def to_markdown(self) -> str:
        """Languages by checkpoints."""
        header, rows = self._table()
        lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
        return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"

    def __str__(self) -> str:
        return printed(self)

    def __rich__(self) -> Any:
        """The table that rich prints."""
        from rich.table import Table

        header, rows = self._table()
        table = Table(title="Generations that leave their language", header_style="bold", title_justify="left")
        for number, name in enumerate(header):
            table.add_column(name, justify="right" if number else "left")
        for row in rows:
            table.add_row(*row)
        return table

    def _table(self) -> tuple[list[str], list[list[str]]]:
        languages = list(dict.fromkeys(code for report in self.reports.values() for code in report.languages))
        rows = [[code or "all", *map(_words, self.rates(code).values())] for code in (*languages, None)]
        return ["prompts in", *self.reports], rows


def code_switching_over_checkpoints(
    checkpoints: Mapping[str, nn.Module | str | Path] | Sequence[str | Path],
    prompts: Mapping[str, Sequence[str]],
    *,
    tokenizer: Any = None,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    top_p: float = 1.0,
    samples: int = 1,
    seed: int = 0,
    criteria: Criteria | None = None,
    batch_size: int | Literal["auto"] = "auto",
    device: str | None = None,
    progress: bool = True,
) -> SwitchingCurve:
    """`code_switching_rate` of each checkpoint, on the same prompts and random numbers.

    Args:
        checkpoints: Name -> model, folder or Hub id; or folders and ids, named by their last part. One is loaded at a time.
        prompts: Language -> prompts.
        tokenizer: Of all checkpoints; each one's own if None, which models in memory do not have.
        max_new_tokens: Tokens of each text, at most.
        temperature: Divides the logits.
        top_p: Tokens are drawn from the most probable ones that have this probability together.
        samples: Texts after each prompt.
        seed: Of the draws.
        criteria: When a text has left its language.
        batch_size: Texts at once.
        device: For checkpoints that are loaded; the GPU if there is one.
        progress: Show progress bars.

    Raises:
        InputError: There is no checkpoint, two have one name, or one cannot be loaded.
    """
    reports = {}
    for name, source in _named(checkpoints).items():
        model, own = _loaded(source, tokenizer, device)
        reports[name] = code_switching_rate(
            model,
            own,
            prompts,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            samples=samples,
            seed=seed,
            criteria=criteria,
            batch_size=batch_size,
            progress=progress,
        )
    return SwitchingCurve(reports)


def _named(
    checkpoints: Mapping[str, nn.Module | str | Path] | Sequence[str | Path],
) -> Mapping[str, nn.Module | str | Path]:
    if isinstance(checkpoints, (str, Path)) or not checkpoints:
        raise InputError(f"Expected checkpoints by name, or a list of folders, got {checkpoints!r}.")
    if isinstance(checkpoints, Mapping):
        return checkpoints
    return dict(_by_last_part([str(one) for one in checkpoints]))


def _by_last_part(sources: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The last part of a path, or all of it where another path ends alike."""
    if len(set(sources)) < len(sources):
        raise InputError(f"A checkpoint is named twice: {list(sources)}.")
    last = [Path(one).name for one in sources]
    for source, short in zip(sources, last, strict=True):
        yield (short if short and last.count(short) == 1 else source), source


def _loaded(source: nn.Module | str | Path, tokenizer: Any, device: str | None) -> tuple[Any, Any]:
    if isinstance(source, nn.Module):
        if tokenizer is None:
            raise InputError("A model in memory has no tokenizer of its own: pass tokenizer=.")
        return source, tokenizer
    try:
        model = AutoModelForCausalLM.from_pretrained(str(source))
        own = AutoTokenizer.from_pretrained(str(source)) if tokenizer is None else tokenizer
    except (OSError, ValueError) as error:
        raise InputError(
            f"Cannot load the checkpoint {str(source)!r}: {error} Pass a folder written by save_pretrained, or a Hub id; "
            "tokenizer= if it has none."
        ) from error
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval(), own


def _words(rate: Rate) -> str:
    return f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%})" if rate.count else "-"
