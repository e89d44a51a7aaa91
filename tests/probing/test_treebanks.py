"""CoNLL-U: what is not a word is left out, what is broken is named by its line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hf_langcore.errors import CorpusError
from hf_langcore.probing.treebanks import load_treebanks, read_treebank

GERMAN = """# newdoc
# sent_id = s1
# text = Er war am Haus.
1\tEr\ter\tPRON\t_\t_\t5\tnsubj\t_\t_
2\twar\tsein\tAUX\t_\t_\t5\tcop\t_\t_
3-4\tam\t_\t_\t_\t_\t_\t_\t_\t_
3\tan\tan\tADP\t_\t_\t5\tcase\t_\t_
4\tdem\tder\tDET\t_\t_\t5\tdet:art\t_\t_
4.1\tnah\t_\tADJ\t_\t_\t_\t_\t5:amod\t_
5\tHaus\tHaus\tNOUN\t_\t_\t0\troot\t_\tSpaceAfter=No
6\t.\t.\tPUNCT\t_\t_\t5\tpunct\t_\t_
"""
TWO = GERMAN + "\n# sent_id = s2\n1\tJa\t_\tINTJ\t_\t_\t0\troot\t_\t_\n"


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_multiword_tokens_and_empty_nodes_are_no_words(tmp_path: Path) -> None:
    """Heads count words only; the form of the multiword token is kept, subtypes are cut off."""
    first, second = read_treebank(write(tmp_path / "de.conllu", TWO))
    assert first.words == ("Er", "war", "an", "dem", "Haus", ".")
    assert first.upos == ("PRON", "AUX", "ADP", "DET", "NOUN", "PUNCT")
    assert first.heads == (4, 4, 4, 4, -1, 4)
    assert first.relations == ("nsubj", "cop", "case", "det", "root", "punct")
    assert first.contractions == ((2, 4, "am"),)
    assert (first.text, first.name, first.line) == ("Er war am Haus.", "s1", 1)
    assert (second.words, second.text, second.name, second.line) == (("Ja",), None, "s2", 13)


def test_an_empty_node_may_come_before_the_first_word(tmp_path: Path) -> None:
    text = "0.1\tich\t_\t_\t_\t_\t_\t_\t2:nsubj\t_\n1\tGeh\t_\tVERB\t_\t_\t0\troot\t_\t_\n"
    assert read_treebank(write(tmp_path / "a.conllu", text))[0].words == ("Geh",)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.rstrip("\n"),
        lambda text: "\n\n" + text.replace("\n\n", "\n \n\n") + "\n\n# global comment\n",
    ],
    ids=["Windows", "BOM", "no final blank line", "more blank lines"],
)
def test_the_same_in_other_layouts(tmp_path: Path, change: object) -> None:
    plain = read_treebank(write(tmp_path / "a.conllu", TWO))
    other = read_treebank(write(tmp_path / "b.conllu", change(TWO)))  # type: ignore[operator]
    assert [(one.words, one.heads, one.text) for one in other] == [(one.words, one.heads, one.text) for one in plain]


def test_other_line_separators_are_part_of_a_word(tmp_path: Path) -> None:
    """Python's splitlines would cut here, and count wrongly."""
    text = "1\ta\u2028b\t_\tX\t_\t_\t0\troot\t_\t_\n"
    assert read_treebank(write(tmp_path / "a.conllu", text))[0].words == ("a\u2028b",)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("2\twar\tsein\tAUX", "2\twar\tsein AUX", 5, "9 columns, expected 10"),
        ("2\twar", "zwei\twar", 5, "the ID 'zwei' is not a number"),
        ("2\twar", f"{'9' * 5000}\twar", 5, "not a number"),
        ("2\twar", "3\twar", 5, "the ID '3' is out of order after 1 word."),
        ("3-4\tam", "2-4\tam", 6, "the ID '2-4' is out of order"),
        ("4.1\tnah", "5.1\tnah", 9, "the ID '5.1' is out of order"),
        ("5\tnsubj", "7\tnsubj", 4, "the HEAD 7 is out of range: there are 6 words"),
        ("5\tnsubj", "-1\tnsubj", 4, "the HEAD '-1' is not a number"),
        ("5\tnsubj", "3-4\tnsubj", 4, "the HEAD '3-4' is not a number"),
        ("5\tnsubj", "_\tnsubj", 4, "the word 'Er' has no HEAD (column 7)"),
        ("5\tnsubj", "5\t_", 4, "the word 'Er' has no DEPREL (column 8)"),
        ("AUX", "_", 5, "the word 'war' has no UPOS (column 4)"),
        ("1\tEr", "1\t", 4, "no FORM (column 2)"),
        ("0\troot\t_\tSpace", "6\troot\t_\tSpace", 4, "the sentence has no root"),
        ("5\tcop", "2\tcop", 5, "the heads form a cycle at the word 'war'"),
        ("3-4\tam", "3-9\tam", 11, "ends inside a multiword token"),
        ("\n\n", "\n\n# text = Nein\n\n", 13, "a sentence without words"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    assert old in TWO
    path = write(tmp_path / "de.conllu", TWO.replace(old, new, 1))
    with pytest.raises(CorpusError) as caught:
        read_treebank(path)
    assert f"'{path}', line {line}: " in str(caught.value)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_cycle_among_several_words(tmp_path: Path) -> None:
    """A root is there, but two words lead to each other."""
    rows = [("a", 0), ("b", 3), ("c", 2)]
    text = "".join(f"{n}\t{word}\t_\tX\t_\t_\t{head}\tdep\t_\t_\n" for n, (word, head) in enumerate(rows, 1))
    with pytest.raises(CorpusError, match=r"line 2: .*cycle at the word 'b'"):
        read_treebank(write(tmp_path / "a.conllu", text))


def test_missing_blank_line_between_sentences(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="line 13: the ID '1' is out of order after 6 words"):
        read_treebank(write(tmp_path / "a.conllu", TWO.replace("\n\n", "\n")))


def test_files_that_are_no_treebank(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no sentence"):
        read_treebank(write(tmp_path / "a.conllu", "# nothing\n"))
    with pytest.raises(CorpusError, match="Cannot read"):
        read_treebank(tmp_path / "none.conllu")
    (tmp_path / "b.conllu").write_bytes(b"# a\n1\t\xff\n")
    with pytest.raises(CorpusError, match="line 2: not UTF-8"):
        read_treebank(tmp_path / "b.conllu")
    for content in (b"\xef\xbb\xbf# a\n# b\n\xff\n", b"# a\r# b\r\xff\r", b"# a\r\n# b\r\n\xff\r\n"):
        (tmp_path / "c.conllu").write_bytes(content)
        with pytest.raises(CorpusError, match="line 3: not UTF-8"):
            read_treebank(tmp_path / "c.conllu")


def test_languages_by_file_name(tmp_path: Path) -> None:
    """Plain codes and the names of Universal Dependencies; files of one treebank are joined."""
    write(tmp_path / "de_gsd-ud-dev.conllu", GERMAN)
    write(tmp_path / "de_gsd-ud-train.conllu", TWO)
    write(tmp_path / "zh.conllu", TWO)
    write(tmp_path / "README.md", "no treebank")
    found = load_treebanks(tmp_path)
    assert {language: len(sentences) for language, sentences in found.items()} == {"de": 3, "zh": 2}
    assert list(load_treebanks(tmp_path, ["zh", "de", "zh"])) == ["zh", "de"]
    assert list(load_treebanks(str(tmp_path), "zh")) == ["zh"]


def test_folders_that_lack_something(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no \.conllu files"):
        load_treebanks(tmp_path)
    path = write(tmp_path / "de_gsd-ud-test.conllu", TWO)
    with pytest.raises(CorpusError, match=r"no treebank of 'fr', 'it'; it has those of de"):
        load_treebanks(tmp_path, ["fr", "de", "it"])
    with pytest.raises(CorpusError, match="name the folder that it lies in"):
        load_treebanks(path)
    with pytest.raises(CorpusError, match="no language"):
        load_treebanks(tmp_path, [])
    write(tmp_path / "de_pud-ud-test.conllu", TWO)
    with pytest.raises(CorpusError, match="several treebanks of 'de'"):
        load_treebanks(tmp_path)


@pytest.mark.real
def test_a_real_treebank() -> None:
    folder = os.environ.get("LANGCORE_TREEBANKS")
    if not folder:
        pytest.skip("LANGCORE_TREEBANKS is not set: it names a folder of treebanks")
    sentences = load_treebanks(folder, ["it"])["it"]
    assert len(sentences) == 1000
    assert sum(len(one.contractions) for one in sentences) == 1547
    assert all(one.heads.count(-1) == 1 for one in sentences)
