from __future__ import annotations

import pytest
from loopback.card import LANGUAGE

from hf_langcore.hub.languages import _ACCEPTED, hub_languages


@pytest.mark.parametrize(
    "name, code",
    [
        ("en", "en"), ("EN", "en"), ("pt-BR", "pt"), ("zh_Hant_TW", "zh"), ("zho_Hans", "zho"), ("yue", "yue"),
        ("no", "no"), ("code", "code"), ("multilingual", "multilingual"),
    ],
)  # fmt: skip
def test_codes_of_corpora(name: str, code: str) -> None:
    """Regions and scripts are left out, letters are small."""
    assert hub_languages([name]) == [code]


@pytest.mark.parametrize("name", ["", "xx", "qqq", "poems", "en poems", "e", "en-", "英語", "english", "1", "en\n"])
def test_what_is_no_code_is_left_out(name: str) -> None:
    assert hub_languages([name]) == []


def test_each_once_in_order() -> None:
    assert hub_languages(["de", "en-GB", "poems", "en", "de"]) == ["de", "en"]


def test_all_codes_have_the_form_that_the_hub_asks_for() -> None:
    """Two or three small letters, and both lists are there."""
    assert all(LANGUAGE.fullmatch(code) for code in _ACCEPTED)
    lengths = [len(code) for code in _ACCEPTED - {"code", "multilingual"}]
    assert (lengths.count(2), lengths.count(3)) == (183, 279)
