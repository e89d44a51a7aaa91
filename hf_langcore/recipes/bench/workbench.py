"""The workbench of the experiments: a model, texts, and a folder that keeps whatever has been measured.

Every measurement is kept under a name made of all that it depends on (weights, texts, settings), so that a run which was
killed goes on where it was, and a changed setting is measured again.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from hf_langcore.binding import weights_digest
from hf_langcore.errors import InputError
from hf_langcore.evaluation import PerplexityReport, ScoringTask, prepare_scoring, score
from hf_langcore.files import replace_json
from hf_langcore.importance import compute_importance
from hf_langcore.masks import CoreMask, ImportanceScores
from hf_langcore.modes import alterations
from hf_langcore.recipes.bench.progress import Progress
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.language_table import PAPER_LANGUAGES
from hf_langcore.sealing import is_intact, sealed

if TYPE_CHECKING:
    from hf_langcore.probing.treebanks import Sentence

Edit = Callable[[nn.Module], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """What all experiments of a run share.

    Attributes:
        core_languages: Where the core is looked for; None takes those of the paper's six that there are texts for, or all.
        fraction: Share of each tensor that the core is.
        block_size: Tokens per block and window.
        core_tokens: At most so many tokens per language for the importance.
        test_tokens: At most so many scored tokens per language and condition.
        batch_size: Windows per forward pass.
        seed: Of everything drawn.
    """

    core_languages: tuple[str, ...] | None = None
    fraction: float = 0.03
    block_size: int = 128
    core_tokens: int | None = None
    test_tokens: int | None = 1024
    batch_size: int | Literal["auto"] = "auto"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Subject:
    """A model whose representations are probed.

    Attributes:
        name: In figures and tables.
        model: A causal LM or an encoder.
        tokenizer: Its tokenizer.
        is_encoder: It reads text from both sides and predicts no next token.
        digest: Of its weights; what is kept of it depends on that.
    """

    name: str
    model: nn.Module
    tokenizer: Any
    is_encoder: bool
    digest: str


class Bench:
    """What an experiment works with.

    Attributes:
        model: The model. Experiments edit it and put every bit back, or train a `fresh_model`.
        tokenizer: Its tokenizer.
        texts: To learn from and to measure on.
        settings: What all experiments share.
        output: The folder of the run.
        progress: Where a run stands; also says whether bars are shown (`progress.is_shown`).
        seconds_before: What the values took that were read from the folder and not made now.
        identity: What every kept figure depends on: digests of weights and texts, and the settings.
        treebanks: Language -> parsed sentences, for experiments on syntax; None without any.
        encoder: An encoder to be probed beside the model; None without one.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        texts: Texts,
        *,
        output: str | Path,
        settings: BenchSettings | None = None,
        progress: Progress | None = None,
        treebanks: Mapping[str, Sequence[Sentence]] | None = None,
        encoder: tuple[nn.Module, Any] | None = None,
    ) -> None:
        if alterations(model):
            raise InputError(
                f"The model has been edited: {'; '.join(alterations(model))}. Experiments start from the model as it was "
                "published: restore the edits, or load it again."
            )
        self.model, self.tokenizer, self.texts = model, tokenizer, texts
        self.settings = settings or BenchSettings()
        self.output = Path(output)
        self.progress = progress or Progress(is_shown=False)
        self.seconds_before = 0.0
        whole = {"model": weights_digest(model), "texts": texts.digest(), "settings": asdict(self.settings)}
        self.identity: dict[str, Any] = json.loads(json.dumps(whole))
        self.treebanks, self.encoder = treebanks, encoder

    @property
    def languages(self) -> list[str]:
        """All languages that are measured."""
        return self.texts.languages

    @property
    def core_languages(self) -> tuple[str, ...]:
        """The languages in which the core is looked for."""
        asked = self.settings.core_languages
        if asked is None:
            return tuple(code for code in PAPER_LANGUAGES if code in self.texts.train) or tuple(self.languages)
        missing = [code for code in asked if code not in self.texts.train]
        if missing or not asked:
            raise InputError(
                f"The core is to be found in {list(asked)}, and there are texts for {self.languages} only. Leave out {missing}, or "
                "give texts of these languages."
            )
        return asked

    def require_treebanks(self) -> Mapping[str, Sequence[Sentence]]:
        """The treebanks.

        Raises:
            InputError: There are none.
        """
        if not self.treebanks:
            raise InputError(
                "This experiment needs parsed sentences. Name a folder of CoNLL-U files, one per language (`--treebanks FOLDER`, "
                "Bench(treebanks=load_treebanks(FOLDER))), such as Parallel Universal Dependencies."
            )
        return self.treebanks

    @cached_property
    def subjects(self) -> tuple[Subject, ...]:
        """The models to be probed: the model, and the encoder if there is one."""
        own = Subject(self._name(), self.model, self.tokenizer, is_encoder=False, digest=self.identity["model"])
        if self.encoder is None:
            return (own,)
        model, tokenizer = self.encoder
        return (own, Subject(_name_of(model), model, tokenizer, is_encoder=True, digest=weights_digest(model)))

    @cached_property
    def companions(self) -> dict[str, Any]:
        """What experiments on syntax depend on besides `identity`: digests of treebanks and encoder."""
        digest = hashlib.sha256(repr([(name, *bank) for name, bank in (self.treebanks or {}).items()]).encode())
        return {"treebanks": digest.hexdigest(), "encoder": None if self.encoder is None else self.subjects[-1].digest}

    @cached_property
    def task(self) -> ScoringTask:
        """The test texts, cut and tokenised."""
        settings = self.settings
        return prepare_scoring(
            self.model,
            self.tokenizer,
            dict(self.texts.test),
            block_size=settings.block_size,
            max_tokens=settings.test_tokens,
        )

    def scores(self, languages: Sequence[str] | None = None) -> ImportanceScores:
        """Importance as published, summed over languages; each language is computed once.

        Args:
            languages: Those of the core if None.
        """
        chosen = self.core_languages if languages is None else languages
        return compute_importance(
            self.model,
            self.tokenizer,
            {language: list(self.texts.train[language]) for language in chosen},
            block_size=self.settings.block_size,
            max_tokens=self.settings.core_tokens,
            resume_dir=self._keep,
            progress=self.progress.is_shown,
        )

    def core(self, fraction: float | None = None, *, languages: Sequence[str] | None = None) -> CoreMask:
        """The core: of all core languages, or of some."""
        return CoreMask.from_scores(self.scores(languages), fraction=fraction or self.settings.fraction)

    def fresh_model(self) -> Any:
        """A copy of the model to be trained."""
        return copy.deepcopy(self.model)

    def kept(self, name: str, settings: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """A JSON value, made once for the same model, texts and settings.

        Args:
            name: What it is, for the file's name.
            settings: All else that it depends on, as JSON values.
            make: Makes it.
        """
        path = self._path(name, settings)
        found = _read(path)
        if found is None:
            started = time.perf_counter()
            value = make()
            seconds = round(time.perf_counter() - started, 2)
            replace_json(path, sealed({"name": name, "settings": dict(settings), "value": value, "seconds": seconds}))
            found = _read(path)
        else:
            self.seconds_before += float(found.get("seconds", 0.0))
        self.progress.step()
        return found["value"] if found is not None else None

    def measure(
        self,
        condition: str,
        settings: Mapping[str, Any] | None = None,
        *,
        edit: Edit | None = None,
        model: nn.Module | None = None,
    ) -> PerplexityReport:
        """Perplexity per language on the test texts, kept as `kept` does.

        Args:
            condition: Its name in the report.
            settings: What else the figures depend on: the mask's digest, the factor, the training.
            edit: Opens an edit of the model for as long as it is measured.
            model: Another model, which `settings` has to describe; `edit` is of it then.
        """
        measured = self.model if model is None else model

        def make() -> Any:
            with edit(measured) if edit is not None else nullcontext():
                report = score(
                    measured,
                    self.task,
                    batch_size=self.settings.batch_size,
                    condition=condition,
                    on_nonfinite="inf",
                    progress=False,
                )
            return report.to_json()

        value = self.kept("perplexity", {"condition": condition, **(settings or {})}, make)
        return PerplexityReport.from_json(value)

    def facts(self) -> dict[str, Any]:
        """What figures of this bench depend on, for a section."""
        settings = self.settings
        return {
            "model": self._name(),
            "texts": self.texts.name,
            "generated": self.texts.is_generated,
            "languages": self.languages,
            "core_languages": list(self.core_languages),
            "block_size": settings.block_size,
            "test_tokens": settings.test_tokens,
            "core_tokens": settings.core_tokens,
            "seed": settings.seed,
        }

    def _name(self) -> str:
        """The model's repository, or its folder's last part: where a folder lies is nobody else's business."""
        return _name_of(self.model)

    @property
    def _keep(self) -> Path:
        return self.output / "kept"

    def _path(self, name: str, settings: Mapping[str, Any]) -> Path:
        whole = {**self.identity, "name": name, "own": dict(settings)}
        digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
        return self._keep / f"{name}-{digest[:24]}.json"


def _name_of(model: nn.Module) -> str:
    name = getattr(getattr(model, "config", None), "_name_or_path", None) or type(model).__name__
    return Path(name).name if Path(name).exists() else str(name)


def _read(path: Path) -> dict[str, Any] | None:
    """A kept value; None where there is none or the file is damaged, so that it is made again."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "value" in found and is_intact(found) else None
