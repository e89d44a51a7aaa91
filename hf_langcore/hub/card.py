"""The card of a core mask's repository: the template, filled."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path, PurePosixPath

from huggingface_hub import ModelCard, ModelCardData

from hf_langcore.errors import InputError
from hf_langcore.hub import card_facts
from hf_langcore.hub.card_data import mask_metadata
from hf_langcore.hub.card_snippets import adapter_snippet, freezing_snippet, loading_snippet
from hf_langcore.hub.front_matter import join_card, split_card
from hf_langcore.hub.markdown import model_link
from hf_langcore.hub.marks import Marks
from hf_langcore.hub.model_index import KEY as INDEX
from hf_langcore.hub.model_index import model_index_of
from hf_langcore.hub.records import EvalResults
from hf_langcore.hub.references import public_base
from hf_langcore.hub.results_table import results_section
from hf_langcore.masks import CoreMask, Provenance

TEMPLATE_FILE = "MODEL_CARD_TEMPLATE.md"
MARKS = Marks("core-mask")

_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp")


def mask_card(
    core_mask: CoreMask,
    *,
    repo_id: str,
    results: EvalResults | None = None,
    license: str | None = None,  # noqa: A002 the card's word
    datasets: Sequence[str] = (),
    figures: Mapping[str, str] | None = None,
    base_license: Mapping[str, str] | None = None,
    previous: str | None = None,
) -> str:
    """The README.md of a repository that holds a core mask.

    Our part stands between two comments, and only that is written anew. What users wrote before or after it stays, and so
    do their keys of the metadata, their tags and their data sets.

    Args:
        core_mask: The mask; its provenance is pinned to a repository and a commit where possible.
        repo_id: The repository, for the snippets.
        results: What `eval/results.json` holds; mirrored in the metadata.
        license: Of the mask; None keeps what the card says, and takes the base model's where it says nothing.
        datasets: Repositories of the data sets whose text was used.
        figures: Path in the repository -> caption, of pictures that the repository holds.
        base_license: `license`, `license_name` and `license_link` of the base model's card, as far as they are known; see
            `hf_langcore.hub.card_data.license_of_base`.
        previous: The README.md that the repository has.

    Returns:
        The whole file.

    Raises:
        InputError: `datasets` or `figures` names what cannot be one, or the metadata of `previous` is no YAML mapping.
    """
    known, written = split_card(previous or "")
    base, revision = public_base(core_mask)
    merged = mask_metadata(core_mask, license=license, base_license=base_license or {}, datasets=datasets, known=known)
    if results is not None:
        index = model_index_of(results, name=repo_id.rsplit("/", maxsplit=1)[-1], previous=known.get(INDEX))
        merged.update({INDEX: index} if index else {})
    card = ModelCard.from_template(
        ModelCardData(library_name=merged["library_name"]),
        template_str=_template(),
        kind="Control mask" if _is_random(core_mask.provenance) else "Core mask",
        name=base.split("/")[-1] if base else "a language model",
        base=model_link(base, revision, otherwise="a model that is not on the Hub"),
        how_it_was_found=card_facts.how_it_was_found(core_mask),
        results="" if results is None else results_section(results, core_mask=core_mask.digest()),
        facts=card_facts.facts(core_mask),
        by_kind=card_facts.by_kind(core_mask),
        dimensions=card_facts.dimensions(core_mask),
        figures=_figures(figures or {}),
        loading=loading_snippet(repo_id, base, revision),
        adapter=adapter_snippet(repo_id, base, revision),
        freezing=freezing_snippet(repo_id, base, revision),
        needs_base=base is None,
        note=_note(core_mask.provenance),
        pins=card_facts.pins(core_mask),
        frameworks=card_facts.frameworks(),
    )
    section = re.sub(r"\n{3,}", "\n\n", card.text).strip()
    return join_card(merged, MARKS.put(section, into=written))


def _is_random(provenance: Provenance) -> bool:
    drawn = "random" in {provenance.method, provenance.which}
    return drawn or re.search(r"random (\w+ )?of equal size", provenance.operation or "") is not None


def _template() -> str:
    """The template: in the installed package, or at the top level of a checkout."""
    packaged = resources.files("hf_langcore.hub").joinpath(TEMPLATE_FILE)
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return Path(__file__).parents[2].joinpath(TEMPLATE_FILE).read_text(encoding="utf-8")


def _note(provenance: Provenance) -> str:
    """What the first lines must not leave unsaid of a mask that was made in another way."""
    method, which = provenance.method, provenance.which
    if method in {"random", "magnitude"} or which == "random" or (which == "bottom" and method != "weight_change"):
        return "**This mask is a control**, no core: it is there to be compared with masks of cores."
    if method == "combined":
        return "This mask was made of other masks, as the table says, and need not be a core itself."
    return (
        "This mask was made by hand; nothing is recorded of how its weights were chosen." if method == "given" else ""
    )


def _figures(figures: Mapping[str, str]) -> str:
    """Pictures as Markdown, in order."""
    for path in figures:
        parts = PurePosixPath(path).parts
        if (
            not path.lower().endswith(_PICTURES)
            or path.startswith("/")
            or ".." in parts
            or not re.fullmatch(r"[\w./-]+", path)
        ):
            raise InputError(
                f"figures names pictures in the repository, such as 'figures/regions.png', got {path!r}. Letters, digits, "
                f"'_', '-', '.' and '/' may be in a path, and it ends in one of {list(_PICTURES)}."
            )
    captions = {path: re.sub(r"[\[\]\n]", " ", caption).strip() for path, caption in figures.items()}
    return "\n\n".join(f"![{caption}]({path})" for path, caption in captions.items())
