"""The anchor: after every optimizer step each weight is pulled a little of the way back to where it began.

It is decoupled from the gradient, as AdamW's weight decay is, so that it works alike with every optimizer, costs one
pass over the weights, and is not divided by Adam's second moments. With `s` = strength x (learning rate / its peak):

    w <- w + s (w_base - w)                                   uniform
    w <- w + min(1, s I / mean(I)) (w_base - w)               weighted by importance I

Sources: L2-SP (Li et al., 2018) for the pull towards the start, EWC (Kirkpatrick et al., 2017) for weighting it by
importance, AdamW (Loshchilov and Hutter, 2019) for decoupling.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from hf_langcore.architecture import Weight, bare_weights
from hf_langcore.auto import auto_class_for
from hf_langcore.errors import ConfigurationError, InputError, ModelChangedError
from hf_langcore.files import replace_json
from hf_langcore.hub.trainer_cards import CardNote, CardNotes
from hf_langcore.masks import Fingerprint, ImportanceScores
from hf_langcore.masks.fingerprint import digest_of
from hf_langcore.training.holdings import Holding, holdings, reshard, whole_value
from hf_langcore.training.support import require_trainable

ANCHOR_FILE = "anchor.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Anchored:
    """One holding with its base values and, where importance decides, the relative strength of each weight."""

    holding: Holding
    base: torch.Tensor
    weight: torch.Tensor | None

    def pull(self, strength: float) -> None:
        live = self.holding.live()
        if live is None:
            return
        base = self.base.to(live.dtype)
        if self.weight is None:
            live.lerp_(base, strength)
        else:
            live.lerp_(base, (self.weight * strength).clamp_(max=1).to(live.dtype))
        if self.holding.put is not None:
            self.holding.put(live)


class Anchor:
    """Base values of live parameters, and the pull towards them.

    Args:
        weights: Parameter name -> weight; all of them are pulled.
        importance: Parameter name -> non-negative importance of each weight. Weights of parameters that are missing here
            are pulled as the mean is.
        base: Parameter name -> base values; the live ones if None.

    Raises:
        ModelChangedError: `base` lacks a parameter or has another shape.
        UnsupportedModelError: A parameter is held in a form that cannot be written to in place.
    """

    def __init__(
        self,
        weights: Mapping[str, Weight],
        *,
        importance: Mapping[str, torch.Tensor] | None = None,
        base: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        mean = _mean(importance) if importance is not None else 1.0
        self._anchored: list[_Anchored] = []
        for name, weight in weights.items():
            parameter = weight.parameter
            whole = whole_value(parameter) if base is None else _base_of(name, base, weight)
            relative = None if importance is None or name not in importance else importance[name] / mean
            # The master is what the optimizer steps; the parameter is rounded from it in the next step.
            places = holdings(name, parameter)
            masters = [place for place in places if place.is_master]
            for place in masters or _own(places, parameter):
                self._anchored.append(_anchored(place, whole, relative))

    def pull(self, strength: float) -> None:
        """Move every weight `strength` of the way towards its base, or more and less as its importance says."""
        for anchored in self._anchored:
            anchored.pull(strength)

    def nbytes(self) -> int:
        """Bytes of the base values and strengths in this process."""
        return sum(one.base.nbytes + (0 if one.weight is None else one.weight.nbytes) for one in self._anchored)


class AnchorCallback(CardNotes, TrainerCallback):  # type: ignore[misc]
    """Pulls the weights back towards the base after every step, in any transformers Trainer.

    Weights that the base holds in bfloat16 exactly are kept in that, two bytes each; others in their own dtype. Pure
    bfloat16 training, without float32 copies of the weights, rounds pulls away that are below half a unit in the last
    place of a weight.

    Args:
        strength: The share of the distance to the base that is taken back in a step at the highest learning rate,
            from 0 to 1; it falls and rises with the learning rate.
        importance: Scores, or the folder of saved ones: the pull on each weight is in proportion to its score, `strength`
            being that of the mean. None pulls all weights alike.
        base_values: Take the base from this model, or from a checkpoint that transformers can load, instead of from the
            weights that training begins with. Needed when a run resumes and its base cannot be found by name.

    Raises:
        InputError: `strength` is out of range.
        ConfigurationError: When training begins: it resumes and the base cannot be found, or is another one.
    """

    def __init__(
        self,
        strength: float = 0.01,
        *,
        importance: ImportanceScores | str | Path | None = None,
        base_values: nn.Module | str | Path | None = None,
    ) -> None:
        check_strength(strength)
        self.strength = strength
        self.anchor: Anchor | None = None
        self._importance = importance
        self._base_values = base_values
        self._peak: list[float] = []

    def on_train_begin(
        self,
        args: Any,
        state: Any,
        control: Any,  # noqa: ARG002 the Trainer passes it
        *,
        model: nn.Module,
        **_: Any,
    ) -> None:
        """Keep the base values."""
        require_trainable(model, args)
        reshard(model)
        folder = Path(args.output_dir)
        weights = {name: weight for name, weight in bare_weights(model).items() if weight.parameter.requires_grad}
        resuming = state.global_step > 0
        base = self._base(folder, weights, resuming=resuming)
        importance = _scores(self._importance, weights)
        self.anchor = Anchor(weights, importance=importance, base=base)
        self.remember_in(model)
        if not resuming:
            identity = _identity(weights, base)
            if state.is_world_process_zero:
                name = getattr(getattr(model, "config", None), "_name_or_path", "")
                replace_json(folder / ANCHOR_FILE, {"base": name, "fingerprint": identity})

    def on_optimizer_step(
        self,
        args: Any,
        state: Any,  # noqa: ARG002 the Trainer passes it
        control: Any,  # noqa: ARG002 the Trainer passes it
        *,
        optimizer: Any = None,
        lr_scheduler: Any = None,
        **_: Any,
    ) -> None:
        """Pull, in proportion to the learning rate of the step that was just taken."""
        if self.anchor is None:
            raise ConfigurationError(
                "AnchorCallback was added while training was running, so it knows no base. Pass it in "
                "Trainer(callbacks=[...]) or call trainer.add_callback before trainer.train."
            )
        self.anchor.pull(self.strength * _share_of_peak(args, optimizer, lr_scheduler))

    def card_note(self) -> CardNote:
        """What the model's card says of this."""
        by = "" if self._importance is None else ", weighted by importance"
        return CardNote(anchor=f"strength {self.strength:g}{by}")

    def _base(self, folder: Path, weights: Mapping[str, Weight], *, resuming: bool) -> dict[str, torch.Tensor] | None:
        """The base values, where they are not the live ones."""
        source = self._base_values
        if source is None and not resuming:
            return None
        noted = _noted(folder) if resuming else {}
        source = source if source is not None else noted.get("base")
        base = source if isinstance(source, nn.Module) else _load(source)
        values = {name: weight.parameter.detach() for name, weight in bare_weights(base).items() if name in weights}
        expected = noted.get("fingerprint")
        if expected is not None and _identity(weights, values) != expected:
            raise ConfigurationError(
                f"The run was anchored to other weights than those of {str(source)[:80]!r}. Pass base_values= (anchor_base= of "
                "the trainer): the model that the run began with."
            )
        return values


def check_strength(strength: float) -> None:
    """Refuse a strength that is no share.

    Raises:
        InputError: It is not from 0 to 1.
    """
    if isinstance(strength, bool) or not isinstance(strength, (int, float)) or not 0 <= strength <= 1:
        raise InputError(
            "The anchor's strength is the share of the distance to the base that each step takes back: a number from 0 to "
            f"1, such as 0.01; got {strength!r}."
        )


def _anchored(place: Holding, whole: torch.Tensor, relative: torch.Tensor | None) -> _Anchored:
    live = place.live()
    like = whole if live is None else live
    base = place.part_of(whole).to(like.device, like.dtype, copy=True)
    short = base.to(torch.bfloat16)
    if torch.equal(short.to(base.dtype), base):
        base = short
    if relative is None:
        return _Anchored(place, base, None)
    return _Anchored(place, base, place.part_of(relative.to(whole.device)).to(like.device, torch.bfloat16, copy=True))


def _own(places: list[Holding], parameter: nn.Parameter) -> list[Holding]:
    """What this process steps; of ZeRO-2 without a fragment here that is nothing."""
    return [] if hasattr(parameter, "_hp_mapping") else places[:1]


def _mean(importance: Mapping[str, torch.Tensor]) -> float:
    total = sum(float(score.double().sum()) for score in importance.values())
    mean = total / max(1, sum(score.numel() for score in importance.values()))
    if not math.isfinite(mean) or mean <= 0:
        raise InputError(
            f"The mean importance is {mean:g}, so no weight can be more important than another. Compute the scores again, "
            "or leave importance out for a uniform anchor."
        )
    return mean


def _scores(
    source: ImportanceScores | str | Path | None, weights: Mapping[str, Weight]
) -> dict[str, torch.Tensor] | None:
    if source is None:
        return None
    scores = source if isinstance(source, ImportanceScores) else ImportanceScores.from_pretrained(source)
    found = {name: scores[name] for name in scores if name in weights}
    wrong = [name for name, score in found.items() if tuple(score.shape) != weights[name].shape]
    if wrong or not found:
        raise InputError(
            f"The importance scores do not fit the model: {f'{wrong[0]!r} has another shape' if wrong else 'no name is the same'}. "
            "Compute them on the model that is trained."
        )
    return found


def _base_of(name: str, base: Mapping[str, torch.Tensor], weight: Weight) -> torch.Tensor:
    if name not in base or tuple(base[name].shape) != weight.shape:
        raise ModelChangedError(
            f"The base has {'no' if name not in base else 'another shape of'} {name!r}. Name the model that is trained, as "
            "it was before."
        )
    return base[name].to(weight.parameter.device)


def _identity(weights: Mapping[str, Weight], base: Mapping[str, torch.Tensor] | None) -> str:
    """Which base this is. Live weights that are sharded are gathered one by one, in all processes."""
    if base is not None:
        return Fingerprint({name: digest_of(name, value) for name, value in sorted(base.items())}).total
    return Fingerprint(
        {name: digest_of(name, whole_value(weight.parameter)) for name, weight in sorted(weights.items())}
    ).total


def _noted(folder: Path) -> dict[str, Any]:
    try:
        noted: dict[str, Any] = json.loads((folder / ANCHOR_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"Training resumes, but {folder / ANCHOR_FILE} cannot be read ({error}), so that it is not known which weights "
            "the run was anchored to. Pass base_values= (anchor_base= of the trainer), or start again without "
            "resume_from_checkpoint."
        ) from error
    return noted


def _load(source: Any) -> nn.Module:
    try:
        model: nn.Module = auto_class_for(str(source)).from_pretrained(str(source), dtype="auto")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"The anchor's base {str(source)!r} cannot be loaded ({error}). Pass base_values= (anchor_base= of the trainer): the "
            "model that the run began with, or its folder."
        ) from error
    return model


def _share_of_peak(args: Any, optimizer: Any, lr_scheduler: Any) -> float:
    """The current learning rate as a share of its peak; 1 where there is no schedule."""
    rates = [group["lr"] for group in getattr(optimizer, "param_groups", [])]
    peaks = list(getattr(lr_scheduler, "base_lrs", None) or [args.learning_rate] * len(rates))
    shares = [float(rate) / peak for rate, peak in zip(rates, peaks, strict=False) if peak]
    return min(1.0, max(shares, default=1.0))
