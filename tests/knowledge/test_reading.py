"""Files of facts and minimal pairs: the built-in ones are whole and balanced, others are checked strictly."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.knowledge import KNOWLEDGE_LANGUAGES, load_knowledge, read_knowledge
from hf_langcore.language_id import likely_languages

FACT = {
    "id": "capital-france",
    "kind": "capital",
    "prompt": "La capitale est",
    "right": "Paris",
    "wrong": ["Rome", "Berlin"],
}
PAIR = {"phenomenon": "gender", "grammatical": "La maison.", "ungrammatical": "Le maison."}
SET: dict[str, Any] = {"format_version": 1, "language": "fr", "facts": [FACT], "minimal_pairs": [PAIR]}


def written(folder: Path, values: Any, name: str = "fr.json") -> Path:
    path = folder / name
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return path


def test_the_built_in_facts_are_parallel_and_balanced() -> None:
    """The same facts in all languages; within a kind each completion is right once and wrong three times."""
    sets = load_knowledge()
    assert tuple(sets) == KNOWLEDGE_LANGUAGES
    names = [fact.name for fact in sets["en"].facts]
    assert len(set(names)) == len(names) == 40
    for one in sets.values():
        assert [fact.name for fact in one.facts] == names
        assert all(len(fact.wrong) == 3 for fact in one.facts)
        right = Counter((fact.kind, fact.right) for fact in one.facts)
        wrong = Counter((fact.kind, text) for fact in one.facts for text in fact.wrong)
        assert set(right.values()) == {1}
        assert wrong == dict.fromkeys(right, 3)


@pytest.mark.parametrize("language", KNOWLEDGE_LANGUAGES)
def test_the_built_in_pairs_differ_in_one_place(language: str) -> None:
    """At least thirty of four phenomena; both sentences end alike, and all entries are in the language of their file."""
    one = load_knowledge(languages=[language])[language]
    phenomena = Counter(pair.phenomenon for pair in one.pairs)
    assert len(one.pairs) >= 30
    assert len(phenomena) >= 4
    assert min(phenomena.values()) >= 4
    for pair in one.pairs:
        first, second = pair.grammatical, pair.ungrammatical
        start = next(i for i in range(len(second)) if i == len(first) or first[i] != second[i])
        rest = {len(text) - start for text in (first, second)}
        same = next((i for i in range(1, min(rest) + 1) if first[-i] != second[-i]), min(rest) + 1) - 1
        assert same >= 1, pair
        assert max(rest) - same <= 24, pair
    text = " ".join(
        [pair.grammatical for pair in one.pairs] + [f"{fact.prompt}{one.joiner}{fact.right}" for fact in one.facts]
    )
    assert likely_languages(text, ratio=10) == (language,)
    assert one.joiner == ("" if language == "zh" else " ")


def test_files_of_ones_own(tmp_path: Path) -> None:
    """A file, a list of files, a folder; the joiner is a space if it is left out, and a list may be missing."""
    path = written(tmp_path, SET)
    only_pairs = {key: SET[key] for key in ("format_version", "minimal_pairs")} | {"language": "it", "joiner": ""}
    other = written(tmp_path, only_pairs, "it.json")
    one = read_knowledge(path)
    assert (one.language, one.joiner, one.facts[0].wrong, one.pairs[0].phenomenon) == (
        "fr",
        " ",
        ("Rome", "Berlin"),
        "gender",
    )
    assert list(load_knowledge(path)) == ["fr"]
    assert list(load_knowledge([other, path])) == ["it", "fr"]
    assert load_knowledge(tmp_path, ["it"])["it"].joiner == ""
    assert load_knowledge(tmp_path)["it"].facts == ()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format_version": 2}, "format_version is 2, this version reads 1"),
        ({"format_version": True}, "format_version is True"),
        ({"language": " "}, "the file: language should be a text"),
        ({"joiner": 3}, "joiner should be a text"),
        ({"extra": 1}, r"the file has \['extra'\]"),
        ({"facts": {}}, "facts should be a list, it is of type dict"),
        ({"facts": [], "minimal_pairs": []}, "neither facts nor minimal_pairs"),
        ({"facts": ["x"]}, r"facts\[0\] should be an object"),
        ({"facts": [FACT, {**FACT, "id": "b", "kind": ""}]}, r"facts\[1\]: kind should be a text, it is ''"),
        ({"facts": [{**FACT, "wrong": "Rome"}]}, r"facts\[0\] \(capital-france\): wrong should be a list"),
        ({"facts": [{**FACT, "wrong": []}]}, "at least one text"),
        ({"facts": [{**FACT, "wrong": ["Rome", "Paris"]}]}, "two completions are the same"),
        ({"facts": [{**FACT, "rihgt": "x"}]}, r"facts\[0\] has \['rihgt'\]"),
        ({"facts": [{key: FACT[key] for key in ("id", "kind", "prompt", "wrong")}]}, r"facts\[0\] lacks \['right'\]"),
        ({"facts": [FACT, FACT]}, r"facts\[1\] has the same id as facts\[0\]"),
        ({"minimal_pairs": [{**PAIR, "ungrammatical": "La maison."}]}, r"minimal_pairs\[0\]: both sentences"),
        ({"minimal_pairs": [PAIR, PAIR]}, "same grammatical sentence"),
        ({"minimal_pairs": [{**PAIR, "phenomenon": None}]}, r"minimal_pairs\[0\]: phenomenon should be a text"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_entry(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    path = written(tmp_path, {**SET, **change})
    with pytest.raises(CorpusError, match=f"fr.json is no file of facts and minimal pairs: .*{problem}"):
        read_knowledge(path)


@pytest.mark.parametrize("content", ["", "[1]", '{"a": 1, "a": 2}', '{"format_version": NaN}', "{"])
def test_what_is_no_json_object_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(CorpusError, match="no file of facts"):
        read_knowledge(written(tmp_path, content))


def test_missing_files_and_languages(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="missing or no ordinary file"):
        load_knowledge(tmp_path / "none.json")
    with pytest.raises(CorpusError, match="no file in the folder"):
        load_knowledge(tmp_path)
    with pytest.raises(InputError, match=r"\['ko'\]; there are some in \['ar', 'de'"):
        load_knowledge(languages=["de", "ko"])
    with pytest.raises(InputError):
        load_knowledge(languages=[])
    path = written(tmp_path, SET)
    with pytest.raises(CorpusError, match="another file is in 'fr' already"):
        load_knowledge([path, written(tmp_path, SET, "again.json")])
