"""Plain boolean tensors by parameter name, as "Unveiling Linguistic Regions" and many scripts write them."""

from __future__ import annotations

from collections.abc import Mapping

from hf_langcore.architecture import Weight
from hf_langcore.errors import CoreMaskMismatchError, InputError
from hf_langcore.exchange.names import Parameters
from hf_langcore.exchange.planes import refuse, require_shape, zeros_and_ones
from hf_langcore.exchange.reading import Artifact, content_tensors
from hf_langcore.exchange.stored import Stored
from hf_langcore.masks import CoreMask, PackedBits


def boolean_planes(artifact: Artifact, parameters: Parameters) -> tuple[dict[str, PackedBits], str]:
    """The bits of tensors of booleans or of 0 and 1, and what was imported in words.

    The mask covers the tensors that the file names. Of models with Conv1D (GPT-2), which store (in, out), files with these
    matrices as nn.Linear has them are turned round; where all of them are square the file counts as (in, out).

    Raises:
        InputError: There are no tensors by name in the file.
        CoreMaskMismatchError: It is for another model.
        CoreMaskFormatError: A value is neither 0 nor 1, or two tensors of one parameter differ.
    """
    tensors = content_tensors(artifact.content)
    if tensors is None:
        raise InputError(f"{artifact.name!r} holds no tensors by parameter name.")
    found: dict[str, tuple[Weight, Stored]] = {}
    for name, stored in tensors.items():
        if not isinstance(stored, Stored):
            raise InputError(
                f'{name!r} in {artifact.name!r} is sparse. Pass format="sparse_diff" to take what is not zero.'
            )
        found[name] = (parameters.find(name, source=artifact.name), stored)
    turned = _is_turned(found, artifact.name)
    planes: dict[str, PackedBits] = {}
    for name, (weight, stored) in found.items():
        turn = turned and weight.is_transposed
        require_shape(artifact.name, weight.name, stored.shape, weight.shape[::-1] if turn else weight.shape)
        bits = zeros_and_ones(stored, source=artifact.name, name=name)
        plane = PackedBits.from_bool(bits.t() if turn else bits)
        if weight.name in planes and (planes[weight.name] ^ plane).count():
            refuse(
                artifact.name, name, f"it stands for {weight.name!r}, for which another of its tensors says otherwise"
            )
        planes[weight.name] = plane
    # Of a model with other first parts of the names the mask is another one.
    if (
        artifact.digest is not None
        and planes.keys() == tensors.keys()
        and CoreMask(planes).digest() != artifact.digest
    ):
        refuse(artifact.name, "the mask", "it is another one than the digest in the file names")
    return planes, "boolean tensors"


def _is_turned(found: Mapping[str, tuple[Weight, Stored]], source: str) -> bool:
    """Whether the file has Conv1D's matrices as nn.Linear would; its matrices that are not square tell."""
    matrices = [(w, s) for w, s in found.values() if w.is_transposed and w.shape != w.shape[::-1]]
    turned = [weight.name for weight, stored in matrices if stored.shape == weight.shape[::-1]]
    if turned and len(turned) < len(matrices):
        kept = next(weight.name for weight, stored in matrices if weight.name not in turned)
        raise CoreMaskMismatchError(
            f"{source!r} has {turned[0]!r} as (out, in) and {kept!r} otherwise, so the orientation of its square matrices "
            "cannot be told. Save all of them as the model stores them, (in, out)."
        )
    return bool(turned)
