"""Prompts out of texts and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.switching.prompts import first_words, read_prompts


def test_the_first_words() -> None:
    """Two characters are a word where there are no spaces; Hangul has spaces. Equal beginnings are one prompt."""
    texts = {
        "en": ["  one two three four", "one two five", "six", "seven eight nine"],
        "zh": ["我们今天去学校学习汉语"],
        "ko": ["우리는 오늘 학교에 갑니다"],
    }
    found = first_words(texts, words=2)
    assert found == {"en": ["one two", "six", "seven eight"], "zh": ["我们今天"], "ko": ["우리는 오늘"]}
    assert first_words(texts, words=None, prompts=2)["en"] == ["one two three four", "one two five"]
    for options in ({"words": 0}, {"words": 2, "prompts": 0}, {"words": True}):
        with pytest.raises(InputError, match="whole number of at least 1"):
            first_words(texts, **options)


def test_folders_and_lines(tmp_path: Path) -> None:
    (tmp_path / "de.txt").write_text("eins zwei drei\nvier fünf", encoding="utf-8")
    (tmp_path / "en.txt").write_text("one two three", encoding="utf-8")
    assert read_prompts(tmp_path, ["de"], words=2) == {"de": ["eins zwei", "vier fünf"]}
    lines = tmp_path / "p.jsonl"
    lines.write_text('{"language": "de", "prompt": "a b"}\n\n{"language": "zh", "prompt": "今天"}\n', encoding="utf-8")
    assert read_prompts(lines) == {"de": ["a b"], "zh": ["今天"]}
    assert read_prompts(lines, ["zh"], words=1) == {"zh": ["今天"]}


def test_byte_order_mark_and_separators_inside_of_strings(tmp_path: Path) -> None:
    lines = tmp_path / "p.jsonl"
    lines.write_bytes('\ufeff{"language": "de", "prompt": "a\u2028b\u0085c"}\r\n{"language": "de"}\r\n'.encode())
    with pytest.raises(CorpusError, match="line 2: expected"):
        read_prompts(lines)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"language": "de", "prompt": "a"}\nx', "line 2: no JSON"),
        ('{"language": "de"}', r'line 1: expected \{"language"'),
        ('{"language": "de", "prompt": " "}', "line 1: expected"),
        ("[1]", "line 1: expected"),
        ("", "no prompts in any language"),
        ('{"language": "de", "prompt": "a"}', r"no prompts in \['fr'\]; there are some in \['de'\]"),
    ],
)
def test_wrong_files(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CorpusError, match=problem):
        read_prompts(path, ["fr"] if "fr" in problem else None)
    with pytest.raises(CorpusError, match="Cannot read prompts"):
        read_prompts(tmp_path / "none.jsonl")
