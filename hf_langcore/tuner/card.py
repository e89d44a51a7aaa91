"""The first lines of an adapter's model card: what has to be imported before it can be loaded."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import ModelCard

from hf_langcore.masks import CoreMask

_MARK = "<!-- core-region -->"
_END = "<!-- /core-region -->"


def write_first_lines(folder: str | Path, core_mask: CoreMask) -> None:
    """Say in an adapter's card what to import, because PEFT alone does not know the method.

    Args:
        folder: Of the adapter; nothing happens where it has no README.md.
        core_mask: The adapter's core.
    """
    path = Path(folder, "README.md")
    if not path.is_file():
        return
    card = ModelCard.load(path, ignore_metadata_errors=True)
    lines = _first_lines(core_mask)
    before, mark, rest = card.text.partition(_MARK)
    after = rest.partition(_END)[2].lstrip()
    card.text = f"{before}{lines}\n\n{after}" if mark else f"\n{lines}\n\n{card.text.lstrip()}"
    card.save(path)


def _first_lines(core_mask: CoreMask) -> str:
    base = core_mask.provenance.base_model or "the base model"
    revision = core_mask.provenance.base_revision
    at = f" at revision `{revision}`" if revision else ""
    return f"""{_MARK}
**Import `hf_langcore` before you load this adapter** (`pip install hf_langcore[train]`): it brings the PEFT method
CORE_REGION; without it PEFT stops with `KeyError: 'CORE_REGION'`.

```python
import hf_langcore  # makes PEFT know the method
from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained("this repository or folder")
```

The adapter changes `{base}`{at} everywhere but in its core region: {core_mask.count():,d} of
{core_mask.numel():,d} weights keep every bit. The core mask lies beside the adapter; its digest is
`{core_mask.digest()}`.
{_END}"""
