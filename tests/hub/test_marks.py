from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.hub.marks import Marks

MARKS = Marks("core-mask")
TEXT = st.text(alphabet="ab \n", max_size=12)


@given(before=TEXT, after=TEXT)
def test_only_our_part_changes(before: str, after: str) -> None:
    """What stands before and after it stays, however often it is written."""
    first = MARKS.put("one", into="")
    text = f"{before}{first}{after}"
    again = MARKS.put("two\nlines", into=text)
    assert MARKS.of(again) == "two\nlines"
    start, end = again.index("<!-- core-mask -->"), again.index("<!-- /core-mask -->") + len("<!-- /core-mask -->")
    assert again[:start] == before
    assert again[end:].strip() == after.strip()
    assert MARKS.put("two\nlines", into=again) == again


def test_ours_comes_first_in_a_text_of_others() -> None:
    assert MARKS.put("ours", into="\n\ntheirs\n") == "<!-- core-mask -->\nours\n<!-- /core-mask -->\n\ntheirs\n"


def test_half_a_pair_loses_no_text() -> None:
    """A mark whose partner somebody deleted goes; the words behind it stay."""
    for broken in (
        "<!-- core-mask -->\nold\n\nmine",
        "old\n<!-- /core-mask -->\n\nmine",
        "<!-- /core-mask -->mine<!-- core-mask -->",
    ):
        text = MARKS.put("new", into=broken)
        assert MARKS.of(text) == "new"
        assert "mine" in text.partition("<!-- /core-mask -->")[2]
        assert text.count("core-mask -->") == 2
        assert MARKS.put("new", into=text) == text


def test_half_a_pair_beside_a_whole_one() -> None:
    """Text between a lone mark and our part is somebody's."""
    whole = MARKS.put("old", into="")
    for lone in ("<!-- core-mask -->", "<!-- /core-mask -->"):
        for broken in (f"{lone}mine\n{whole}", f"{whole}mine{lone}\n"):
            text = MARKS.put("new", into=broken)
            assert MARKS.of(text) == "new"
            assert text.count("core-mask -->") == 2
            assert "mine" in text.replace(MARKS.put("new", into=""), "")
            assert "old" not in text


def test_a_second_pair_goes() -> None:
    twice = MARKS.put("a", into="") + "between\n" + MARKS.put("b", into="")
    text = MARKS.put("new", into=twice)
    assert text.count("core-mask -->") == 2
    assert "between" in text
    assert "b\n<!--" not in text
    assert MARKS.of("nothing") is None
