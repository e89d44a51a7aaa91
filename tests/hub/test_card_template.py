"""The template: in a checkout, and in an installed wheel."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from card_checks import check_card

import hf_langcore
from hf_langcore.hub import card

ROOT = Path(hf_langcore.__file__).parent.parent

RENDER = """
import sys
sys.path.insert(0, sys.argv[1])
import hf_langcore, torch
assert hf_langcore.__file__.startswith(sys.argv[1]), hf_langcore.__file__
from hf_langcore import CoreMask
from hf_langcore.hub.card import mask_card
sys.stdout.write(mask_card(CoreMask({"a.weight": torch.eye(8) > 0}), repo_id="me/mask", license="mit"))
"""


def test_in_a_checkout_it_lies_at_the_top_level() -> None:
    """And nowhere else, so that there is one to edit."""
    assert not (ROOT / "hf_langcore" / "hub" / card.TEMPLATE_FILE).exists()
    assert card._template() == (ROOT / card.TEMPLATE_FILE).read_text(encoding="utf-8")


def test_every_placeholder_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the template asks for and what the code gives are the same names."""
    asked = set(re.findall(r"{[{%]-?\s*(?:if\s+)?(\w+)", card._template())) - {"endif", "card_data"}
    given: set[str] = set()
    original = card.ModelCard.from_template

    def spy(data: object, template_str: str, **values: object) -> object:
        given.update(values)
        return original(data, template_str=template_str, **values)

    monkeypatch.setattr(card.ModelCard, "from_template", spy)
    import torch

    card.mask_card(hf_langcore.CoreMask({"w": torch.eye(3) > 0}), repo_id="me/mask")
    assert asked == given


def test_an_installed_wheel_renders_a_card(tmp_path: Path) -> None:
    """Built, installed into an empty folder, and asked in a process that cannot see the checkout."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("hf_langcore", "pyproject.toml", "README.md", "LICENSE", card.TEMPLATE_FILE):
        (source / name).symlink_to(ROOT / name)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(installed)]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-P", "-c", RENDER, str(installed)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    check_card(done.stdout, private=tmp_path)
    assert "# Core mask of a language model" in done.stdout
