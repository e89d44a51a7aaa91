"""What the model goes on from."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from transformers import PreTrainedTokenizerFast

from hf_langcore.errors import ConfigurationError
from hf_langcore.replay.prompts import UNCONDITIONAL, answer_prompt, prompts_of, start_of, stop_ids_of, turn_of


def test_prompts_are_the_first_tokens_of_different_texts(tokenizer: PreTrainedTokenizerFast) -> None:
    """After the start token, in the order of the texts, each once."""
    texts = {"en": ["the cat", "the dog", "we saw", "a"]}
    found = prompts_of(tokenizer, texts, opening=start_of(tokenizer), seed_tokens=3)
    assert [tokenizer.decode(prompt) for prompt in found["en"]] == ["<s>the", "<s>we ", "<s>a"]
    assert prompts_of(tokenizer, None, opening=[0], seed_tokens=3) == {UNCONDITIONAL: [[0]]}


def test_the_template_tells_how_a_turn_opens_and_ends(tokenizer: PreTrainedTokenizerFast) -> None:
    """Special tokens of the template are special tokens of the prompt."""
    turn = turn_of(tokenizer)
    assert tokenizer.decode(turn.opening) == "<s>[user]"
    assert (turn.opening[0], turn.end) == (0, 1)
    assert tokenizer.decode(answer_prompt(tokenizer, "hi")) == "<s>[user]hi</s>[assistant]"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "needs a chat template"),
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", "after an opening"),
        ("[user]{% for m in messages %}{{ m['content'] | upper }}{% endfor %}", "as they are"),
    ],
)
def test_templates_that_hide_the_user_are_refused(
    tokenizer: PreTrainedTokenizerFast, template: str | None, message: str
) -> None:
    """There would be nothing to go on from."""
    tokenizer.chat_template = template
    with pytest.raises(ConfigurationError, match=message):
        turn_of(tokenizer)


def test_every_end_token_ends_a_text(tokenizer: PreTrainedTokenizerFast) -> None:
    """Those of tokenizer, model and template."""
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=[7, 1]))
    assert stop_ids_of(model, tokenizer, None) == [1, 7]
    assert stop_ids_of(SimpleNamespace(), tokenizer, SimpleNamespace(opening=[], end=9)) == [1, 9]
