from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.errors import InputError
from hf_langcore.hub.front_matter import as_list, join_card, split_card, union

WORDS = st.sampled_from(
    ["no", "yes", "on", "null", "1e3", "2024-01-01", "語", "a: b", "- x", "---", "# y", "true", " "]
)
# PyYAML folds line ends of other alphabets than ours.
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]) | st.just("\n"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(TEXT | WORDS, VALUES, max_size=4), TEXT.map(str.strip))
def test_what_is_joined_can_be_split(metadata: dict[str, object], text: str) -> None:
    """Whatever the metadata hold, they come back, and so does the text."""
    if not metadata and text.startswith("---"):
        return  # a text that begins like metadata cannot be told from them
    found, rest = split_card(join_card(metadata, text))
    assert found == metadata
    assert rest.strip() == text.replace("\r\n", "\n").replace("\r", "\n").strip()


@pytest.mark.parametrize("word", ["no", "on", "y", "off"])
def test_words_are_no_booleans(word: str) -> None:
    """Norwegian is a language, and the Hub reads YAML 1.2."""
    assert split_card(f"---\nlanguage:\n- {word}\ngated: false\n---\n")[0] == {"language": [word], "gated": False}


def test_foreign_line_ends_and_marks() -> None:
    """Cards that were written on other systems are cards."""
    metadata, text = split_card("\ufeff---\r\nlicense: mit\r\n---\r\n# Title\r\n")
    assert (metadata, text) == ({"license": "mit"}, "# Title\n")


def test_cards_without_metadata() -> None:
    """Text stays text, and an empty block is no metadata."""
    assert split_card("# Title\n") == ({}, "# Title\n")
    assert split_card("---\n\n---\nx") == ({}, "x")
    assert join_card({}, "\n# Title\n\n") == "# Title\n"


@pytest.mark.parametrize("block", ["- a\n- b", "a: [", "a: !!python/object:os.system x", "word", "a: &b [*b]\nc: *d"])
def test_damaged_metadata_are_refused(block: str) -> None:
    """Nothing is dropped in silence, and nothing is executed."""
    with pytest.raises(InputError, match=r"no YAML mapping .*Put it right"):
        split_card(f"---\n{block}\n---\n")


def test_lists() -> None:
    """What the Hub takes as one or several."""
    assert (as_list(None), as_list("a"), as_list(("a", "b"))) == ([], ["a"], ["a", "b"])
    assert union(["b", "a"], None, "a", ["c", "b"]) == ["b", "a", "c"]


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    "block, reason",
    [
        (LAUGHS, "its aliases stand for more than"),
        ("a: &a [1, *a]", "an anchor stands inside itself"),
        ("a: &a {b: *a}", "an anchor stands inside itself"),
        ("a: " + "x" * (1 << 20), "more than 262,144 signs"),
        ("a:\n" * 10_001, "8,000 lines, items"),
        ("a: [" + "b," * 10_001 + "]", "8,000 lines, items"),
        ("a: 0x" + "f" * 5000, "more than 1,000 digits"),
        ("a: !!int ''", "no YAML mapping"),
        ("a: !!bool maybe", "no YAML mapping"),
        ("a: !!timestamp never", "no YAML mapping"),
        ("a: !!python/object/apply:os.system ['touch canary']", "could not determine a constructor"),
        ("a: !" + "x" * 5000 + " 1", "could not determine a constructor"),
        ("[" * 5000, "recursion"),
    ],
)
def test_hostile_metadata_are_refused_soon(block: str, reason: str) -> None:
    """In bounded time, memory and words."""
    with pytest.raises(InputError, match=reason) as caught:
        split_card(f"---\n{block}\n---\ntext")
    assert len(str(caught.value)) < 600


def test_aliases_are_no_sin() -> None:
    """A part that is repeated is read as often as it stands."""
    assert split_card("---\na: &a [1]\nb: *a\nc: {<<: &m {d: 2}}\ne: {<<: *m}\n---\n")[0] == {
        "a": [1], "b": [1], "c": {"d": 2}, "e": {"d": 2},
    }  # fmt: skip


def test_what_is_handed_out_is_nobody_elses() -> None:
    """Cards are read several times, and each caller may change what it got."""
    card = "---\ntags: [a]\n---\n"
    split_card(card)[0]["tags"].append("b")
    assert split_card(card)[0] == {"tags": ["a"]}
