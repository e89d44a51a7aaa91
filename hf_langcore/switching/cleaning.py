"""What in a text is in no language: code, formulas, addresses. It is blanked out, so that positions stay what they were."""

from __future__ import annotations

import re

_SPANS = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]+`"  # code in fences and backticks
    r"|\$\$.+?\$\$|\$[^$\n]+\$|\\\[.+?\\\]|\\\(.+?\\\)"  # formulas
    r"|\b(?:https?|ftp)://\S+|\bwww\.\S+|\S+@\S+\.\w+|data:\w+/[\w.+-]+;base64,\S+"  # addresses and embedded data
    r"|</?[a-zA-Z][^<>\n]*>"  # tags
    r"|\N{REPLACEMENT CHARACTER}",
    re.DOTALL,
)
_LINE = re.compile(r"[^\n]+")
_SIGNS = re.compile(r"[{}\[\];=<>_\\|&*+#]|\w\(|\)[;{:.)]")
_STATEMENT = re.compile(
    r"\s*(?:import [\w.]+(?: as \w+)?|from [\w.]+ import .+|return(?: [\w.]+)?;?|return [^.?!]*[()\[\]+*/=;][^.?!]*|[\w.]+\(.*\);?|(?:def|class|for|while|if|elif|with|try|else)\b.*:|"
    r"#include\s*[<\"].+|(?:var|let|const|int|void|public|private|static)\s.*[;{]|[{}\]);]+)\s*"
)
_FEWEST_SIGNS = 3
_SHARE_OF_SIGNS = 0.08


def blanked(text: str) -> str:
    """The text with spaces in place of code, formulas, addresses and broken characters; as long as before."""
    spaced = _SPANS.sub(lambda found: _spaces(found.group()), text)
    return _LINE.sub(lambda found: _spaces(found.group()) if _is_code(found.group()) else found.group(), spaced)


def _spaces(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def _is_code(line: str) -> bool:
    """Whether a line is a statement of a programming language, by its form or by how many signs it has."""
    if not line.isascii():
        return False
    if _STATEMENT.fullmatch(line) and not line.rstrip().endswith((".", "?", "!", ",")):
        return True
    signs = len(_SIGNS.findall(line))
    return signs >= _FEWEST_SIGNS and signs >= _SHARE_OF_SIGNS * len("".join(line.split()))
