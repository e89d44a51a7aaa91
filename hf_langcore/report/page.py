"""The report as one page that loads nothing: style, script, figures and data are all in it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hf_langcore._version import __version__
from hf_langcore.report.anchors import anchors
from hf_langcore.report.palette import DARK, LIGHT, Look
from hf_langcore.report.parts import Section
from hf_langcore.report.views import view_of
from hf_langcore.report.wording import breakable, duration, facts, paragraph, without_controls


def render(sections: Sequence[Section], *, title: str, about: Mapping[str, Any]) -> str:
    """The page.

    Args:
        sections: What is shown, in this order.
        title: Of the page.
        about: What all of it depends on: model, revision, texts.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    views = [
        {"anchor": anchor, "section": section, "views": [view_of(part, name) for name, part in parts]}
        for anchor, section, parts in anchors(sections)
    ]
    script = _file("page.js")
    page = _environment().get_template("page.html.j2")
    text = page.render(
        title=title,
        about=list(facts(about)),
        sections=views,
        style=Markup(_style()),  # noqa: S704 our own
        script=Markup(script),  # noqa: S704 our own
        script_hash=_hash(script),
        version=__version__,
    )
    return without_controls(text)


def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("hf_langcore.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "paragraph": paragraph,
        "facts": lambda values: list(facts(values)),
        "duration": duration,
        "breakable": breakable,
    }
    return found


def _style() -> str:
    light, dark = _variables(LIGHT), _variables(DARK)
    steps = "".join(
        f".{letter}{number}{{background:var(--{letter}{number});color:var(--{letter}t{number})}}"
        for letter, colours in (("q", LIGHT.steps), ("n", LIGHT.negative))
        for number in range(len(colours))
    )
    themes = (
        f":root{{color-scheme:light;{light}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}"
        f"@media screen{{:root[data-theme=dark]{{color-scheme:dark;{dark}}}}}"
    )
    return themes + steps + _file("page.css")


def _variables(look: Look) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in look.variables().items())


def _file(name: str) -> str:
    return resources.files("hf_langcore.report").joinpath("templates", name).read_text(encoding="utf-8").strip()


def _hash(script: str) -> str:
    """The page's policy allows this script and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
