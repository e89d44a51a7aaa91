"""Noise of known kinds, put into clean text: what the checks are measured with."""

from __future__ import annotations

import base64
import hashlib
import random
import re
import string
from collections.abc import Callable

Injector = Callable[[str, random.Random], str]

_KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def _into(text: str, piece: str, generator: random.Random) -> str:
    """The piece somewhere inside a text, at a space where there is one."""
    spaces = [match.start() for match in re.finditer(" ", text)] or [len(text) // 2]
    place = generator.choice(spaces)
    return f"{text[:place]} {piece} {text[place:].lstrip()}"


def _word(text: str, generator: random.Random) -> str:
    words = [word for word in re.findall(r"\w+", text) if len(word) > 1] or [text[:2]]
    return generator.choice(words)[:12]


def _letters(generator: random.Random, alphabet: str, count: int) -> str:
    pieces: list[str] = []
    while sum(map(len, pieces)) < count:
        pieces.append("".join(generator.choice(alphabet) for _ in range(generator.randint(4, 10))))
    return " ".join(pieces)


def repeated_word(text: str, generator: random.Random) -> str:
    word = _word(text, generator)
    return _into(text, " ".join([word] * generator.randint(8, 20)), generator)


def repeated_word_unspaced(text: str, generator: random.Random) -> str:
    return _into(text, _word(text, generator)[:4] * generator.randint(10, 20), generator)


def repeated_phrase(text: str, generator: random.Random) -> str:
    words = text.split()
    start = generator.randrange(max(1, len(words) - 6))
    phrase = " ".join(words[start : start + 5]) if len(words) > 8 else text[: min(len(text), 12)]
    return _into(text, " ".join([phrase] * generator.randint(5, 8)), generator)


def repeated_sentence(text: str, generator: random.Random) -> str:
    sentence = text[:120].strip()
    return _into(text, " ".join([sentence] * 4), generator)


def random_letters(text: str, generator: random.Random) -> str:
    return _into(text, _letters(generator, string.ascii_lowercase, generator.randint(80, 160)), generator)


def random_mixed(text: str, generator: random.Random) -> str:
    return _into(
        text, _letters(generator, string.ascii_letters + string.digits, generator.randint(80, 160)), generator
    )


def keyboard(text: str, generator: random.Random) -> str:
    words = [
        "".join(generator.choice(generator.choice(_KEYBOARD)) for _ in range(generator.randint(4, 9)))
        for _ in range(16)
    ]
    return _into(text, " ".join(words), generator)


def hashes(text: str, generator: random.Random) -> str:
    piece = " ".join(hashlib.sha256(generator.randbytes(8)).hexdigest() for _ in range(generator.randint(1, 3)))
    return _into(text, piece, generator)


def base64_run(text: str, generator: random.Random) -> str:
    return _into(text, base64.b64encode(generator.randbytes(generator.randint(60, 160))).decode(), generator)


def symbols(text: str, generator: random.Random) -> str:
    return _into(text, "".join(generator.choice("!@#$%^&*()_+={}[]|\\:;<>?/~") for _ in range(30)), generator)


def only_random(_text: str, generator: random.Random) -> str:
    return _letters(generator, string.ascii_lowercase, 150)


def _mojibake(text: str, encoding: str) -> str:
    return text.encode().decode(encoding, errors="replace").replace("\ufffd", "")


def mojibake_latin1(text: str, generator: random.Random) -> str:
    return text.encode().decode("latin-1")


def mojibake_cp1252(text: str, generator: random.Random) -> str:
    return _mojibake(text, "cp1252")


def mojibake_sentence(text: str, generator: random.Random) -> str:
    """Only one stretch of the text is wrong."""
    start = generator.randrange(max(1, len(text) - 120))
    piece = text[start : start + 120]
    return text[:start] + piece.encode().decode("latin-1") + text[start + 120 :]


def replacement(text: str, generator: random.Random) -> str:
    characters = list(text)
    for _ in range(3):
        characters[generator.randrange(len(characters))] = "\ufffd"
    return "".join(characters)


def control(text: str, generator: random.Random) -> str:
    return _into(text, generator.choice("\x00\x01\x08\x0b\x1b\x7f\x93"), generator)


def entities(text: str, generator: random.Random) -> str:
    for _ in range(2):
        text = _into(text, generator.choice(["&nbsp;", "&amp;", "&#39;", "&quot;", "&lt;br&gt;"]), generator)
    return text


def tags(text: str, generator: random.Random) -> str:
    for _ in range(2):
        text = _into(
            text, generator.choice(["<br>", "<br/>", "</p>", '<div class="main">', "</span>", "<p>"]), generator
        )
    return text


def escapes(text: str, generator: random.Random) -> str:
    return "".join(c if c.isascii() or generator.random() < 0.5 else f"\\u{ord(c):04x}" for c in text)


def marker(text: str, generator: random.Random) -> str:
    markers = [
        "### Instruction:\n",
        "<|im_start|>user\n",
        "[INST]",
        "<start_of_turn>model\n",
        "<|eot_id|>",
        "<|endoftext|>",
    ]
    return (
        generator.choice(markers) + text
        if generator.random() < 0.5
        else _into(text, "\n" + generator.choice(markers), generator)
    )


def labels(text: str, generator: random.Random) -> str:
    half = len(text) // 2
    return f"Human: {text[:half]}\n\nAssistant: {text[half:]}"


INJECTORS: dict[str, dict[str, Injector]] = {
    "repetition": {f.__name__: f for f in (repeated_word, repeated_word_unspaced, repeated_phrase, repeated_sentence)},
    "non_words": {
        f.__name__: f for f in (random_letters, random_mixed, keyboard, hashes, base64_run, symbols, only_random)
    },
    "encoding": {
        f.__name__: f
        for f in (mojibake_latin1, mojibake_cp1252, mojibake_sentence, replacement, control, entities, tags, escapes)
    },
    "template": {f.__name__: f for f in (marker, labels)},
}
