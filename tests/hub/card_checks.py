"""Does a card render, and what is the code in it?"""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import ModelCard
from loopback.card import validate

from hf_langcore.hub.front_matter import split_card


def check_card(content: str, *, private: Path | None = None) -> ModelCard:
    """Assert that a card is sound: metadata, fences, tables, nothing that was not filled in, no path of this machine."""
    assert validate(content) == ([], [])
    card = ModelCard(content)
    assert card.data.to_dict() == ModelCard(str(card)).data.to_dict()
    _, text = split_card(content)
    fences = re.findall(r"^(```+)(.*)$", text, re.MULTILINE)
    assert len(fences) % 2 == 0
    assert not any(after for _, after in fences[1::2])
    prose = "".join(text.split("```")[::2])
    for left_over in ("{{", "}}", "{%", "%}", "[None]", "(https://huggingface.co/)", "None"):
        assert left_over not in prose
    assert '"None"' not in text
    for rows in _tables(prose):
        cells = {len(re.split(r"(?<!\\)\|", row)) for row in rows}
        assert len(cells) == 1, rows
        assert re.fullmatch(r"\|( ?:?-+:? ?\|)+", rows[1]), rows
    assert prose.count("<!--") == prose.count("-->")
    if private is not None:
        assert str(private) not in content
    return card


def snippets(content: str) -> list[str]:
    """The blocks of Python in a card."""
    return re.findall(r"^```python\n(.*?)^```", content, re.DOTALL | re.MULTILINE)


def _tables(text: str) -> list[list[str]]:
    found: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        is_row = line.startswith("|")
        if is_row and not inside:
            found.append([])
        if is_row:
            found[-1].append(line)
        inside = is_row
    return found
