"""What the model goes on from: the start token, the first words of a language, or the opening of a user's turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import nn

from hf_langcore.data import Corpora, encode, read_texts, require_corpora, start_token
from hf_langcore.errors import ConfigurationError, CorpusError

UNCONDITIONAL = "unconditional"
"""The language of texts that begin with nothing but the start token."""

_MOST_PROMPTS = 10_000  # of one language; a fixed number, so that asking for more rows does not change them
_MARK = "\N{BLACK STAR}user turn\N{BLACK STAR}"


@dataclass(frozen=True)
class Turn:
    """How a chat template writes a user's turn.

    Attributes:
        opening: Token ids up to the place where the user speaks.
        end: The token that ends a turn; None where nothing follows the user's words.
    """

    opening: list[int]
    end: int | None


def prompts_of(
    tokenizer: Any, texts: Corpora | None, *, opening: Sequence[int], seed_tokens: int, text_column: str = "text"
) -> dict[str, list[list[int]]]:
    """The prompts of each language.

    Args:
        tokenizer: Any callable with transformers' tokenizer interface.
        texts: Language -> texts whose first tokens follow the opening; None for the opening alone.
        opening: Token ids that every prompt begins with.
        seed_tokens: How many tokens of each text.
        text_column: Column of data sets and tables.

    Returns:
        Language -> token ids of each prompt; different ones, in the order of the texts.

    Raises:
        CorpusError: A language has no text.
    """
    if texts is None:
        return {UNCONDITIONAL: [list(opening)]}
    prompts = {}
    for language, source in require_corpora(texts).items():
        first = islice(read_texts(language, source, text_column=text_column), _MOST_PROMPTS)
        begun = dict.fromkeys(tuple(encode(tokenizer, text)[:seed_tokens]) for text in first)
        if not begun:
            raise CorpusError(f"{language!r} has no text whose first tokens self-replay could go on from.")
        prompts[language] = [[*opening, *tokens] for tokens in begun]
    return prompts


def start_of(tokenizer: Any) -> list[int]:
    """The start token as an opening."""
    return [start_token(tokenizer).id]


def turn_of(tokenizer: Any) -> Turn:
    """How the chat template of a tokenizer opens and ends a user's turn.

    Raises:
        ConfigurationError: There is no chat template, or it changes what the user says.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigurationError(
            f"chat=True needs a chat template, and the tokenizer ({type(tokenizer).__name__}) has none. Leave chat out, "
            "so that the model writes plain text, or set tokenizer.chat_template."
        )
    written = str(tokenizer.apply_chat_template([{"role": "user", "content": _MARK}], tokenize=False))
    opening, found, end = written.partition(_MARK)
    if not found or not opening:
        raise ConfigurationError(
            "The chat template does not write the user's words as they are after an opening, so the model cannot be "
            "made to invent them. Leave chat out, so that it writes plain text."
        )
    closing = encode(tokenizer, end) if end else []
    return Turn(encode(tokenizer, opening), closing[0] if closing else None)


def answer_prompt(tokenizer: Any, instruction: str) -> list[int]:
    """The tokens after which the model answers an instruction."""
    messages = [{"role": "user", "content": instruction}]
    encoded = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, add_generation_prompt=True)
    return list(encoded["input_ids"])


def stop_ids_of(model: nn.Module, tokenizer: Any, turn: Turn | None) -> list[int]:
    """The tokens that end a text: EOS of tokenizer and model, and the end of a turn."""
    generation = getattr(model, "generation_config", None)
    of_model = getattr(generation, "eos_token_id", None)
    listed = list(of_model) if isinstance(of_model, (list, tuple)) else [of_model]
    candidates = [getattr(tokenizer, "eos_token_id", None), *listed, turn.end if turn is not None else None]
    return sorted({token for token in candidates if token is not None})
