"""What a training row looks like, and how rows of two forms become rows of one.

| form | columns |
| --- | --- |
| text | `text` |
| prompt_completion | `prompt` and `completion`, strings |
| messages | `messages`, a list of {"role", "content"} |
| conversation_pair | `prompt` and `completion`, lists of messages |
| tokens | `input_ids`, with `labels`, or with `completion_mask` and `assistant_masks`, or alone |

These are the forms that TRL's SFTTrainer knows. Where a data set has the columns of several, the first of
tokens, messages, prompt and completion, text counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from datasets import Dataset, Features, IterableDataset, List, Value

from hf_langcore.data.blocks import IGNORED
from hf_langcore.errors import ConfigurationError, CorpusError

Form = Literal["text", "prompt_completion", "messages", "conversation_pair", "tokens"]
Rows: TypeAlias = "Dataset | IterableDataset"
Row: TypeAlias = Mapping[str, Any]

TOKEN_FEATURES = Features({"input_ids": List(Value("int64")), "labels": List(Value("int64"))})
MASK_COLUMNS = ("completion_mask", "assistant_masks")

_COLUMNS: dict[Form, tuple[str, ...]] = {
    "text": ("text",),
    "prompt_completion": ("prompt", "completion"),
    "messages": ("messages",),
    "conversation_pair": ("prompt", "completion"),
}
_STRINGS: tuple[Form, ...] = ("text", "prompt_completion")
_GENERATION = re.compile(r"\{%[-+]?\s*generation\b")


def first_row(rows: Rows, *, name: str) -> dict[str, Any]:
    """The first row of a data set.

    Raises:
        CorpusError: There is none.
    """
    row = next(iter(rows), None)
    if row is None:
        raise CorpusError(f"{name} has no rows; a mixture needs at least one task row and one general row.")
    return dict(row)


def form_of(rows: Rows, *, name: str) -> Form:
    """Which form the rows have, judged by columns and, for prompts, by the first row.

    Raises:
        CorpusError: The data set is empty or has none of the forms.
    """
    row = first_row(rows, name=name)
    if "input_ids" in row:
        return "tokens"
    if "messages" in row:
        return "messages"
    if "prompt" in row and "completion" in row:
        return "prompt_completion" if isinstance(row["prompt"], str) else "conversation_pair"
    if "text" in row:
        return "text"
    raise CorpusError(
        f"{name} has the columns {sorted(row)}, in which no known form of training rows is found. Expected `text`, "
        "`prompt` and `completion`, `messages`, or `input_ids`; rename a column with `rename_column`."
    )


def unify(
    *sides: Rows, names: Sequence[str] = ("task", "general"), tokenizer: Any = None, max_length: int | None = None
) -> tuple[Rows, ...]:
    """Bring all data sets into one form with one schema and no empty columns.

    Equal forms stay; then only the columns of the form are kept. Different forms become tokens where there is a
    tokenizer, and otherwise the nearest form that can hold all.

    Args:
        sides: Rows of any form.
        names: What the data sets are called in messages.
        tokenizer: Turns rows of different forms into `input_ids` and `labels`.
        max_length: Tokens after which tokenised rows are cut.

    Raises:
        CorpusError: A data set is empty, has no known form, or cannot be brought into the other's form.
        ConfigurationError: The tokenizer has no chat template, or tokens meet text without a tokenizer.
    """
    forms = {name: form_of(rows, name=name) for name, rows in zip(names, sides, strict=True)}
    kinds = set(forms.values())
    if kinds == {"tokens"}:
        return _unify_tokens(sides)
    if len(kinds) == 1:
        return _unify_schema(sides, kinds.pop())
    if tokenizer is not None:
        return tuple(tokenised(rows, tokenizer, max_length=max_length) for rows in sides)
    target = _common_form(forms)
    converted = [_converted(rows, form, target) for rows, form in zip(sides, forms.values(), strict=True)]
    return _unify_schema(converted, target)


def tokenised(rows: Rows, tokenizer: Any, *, max_length: int | None = None) -> Rows:
    """Rows of any form as `input_ids` and `labels`; rows in which no token is trained are left out.

    Raises:
        ConfigurationError: The rows are conversations and the tokenizer has no chat template.
    """
    form = form_of(rows, name="rows")
    require_chat_template(tokenizer, form)
    encoded = _mapped(
        rows, lambda row: tokenise(row, tokenizer, form=form, max_length=max_length), features=TOKEN_FEATURES
    )
    return encoded.filter(lambda row: any(label != IGNORED for label in row["labels"]))


def tokenise(row: Row, tokenizer: Any, *, form: Form, max_length: int | None = None) -> dict[str, list[int]]:
    """The tokens of a row and their labels.

    Text is trained in full, and a prompt never; EOS follows text and completions where the tokenizer has one.
    Conversations go through the chat template: all of it is trained, or only the assistant's turns where the
    template marks them with `{% generation %}`.

    Args:
        row: A row of the given form.
        tokenizer: A transformers tokenizer.
        form: The form of the row.
        max_length: Tokens after which the row is cut.
    """
    encode: dict[Form, Callable[[], tuple[list[int], list[int]]]] = {
        "text": lambda: _text(row, tokenizer),
        "prompt_completion": lambda: _completion(row, tokenizer),
        "messages": lambda: _conversation(row, tokenizer),
        "conversation_pair": lambda: _reply(row, tokenizer),
        "tokens": lambda: (list(row["input_ids"]), labels_of(row)),
    }
    tokens, labels = encode[form]()
    return {"input_ids": tokens[:max_length], "labels": labels[:max_length]}


def labels_of(row: Row) -> list[int]:
    """The labels of a tokenised row: given, or made from its masks, or all of its tokens."""
    if row.get("labels") is not None:
        return list(row["labels"])
    masks = [row[name] for name in MASK_COLUMNS if row.get(name) is not None]
    bits = zip(*masks, strict=True) if masks else [()] * len(row["input_ids"])
    return [token if all(kept) else IGNORED for token, kept in zip(row["input_ids"], bits, strict=True)]


def require_chat_template(tokenizer: Any, form: Form) -> None:
    """Refuse conversations that the tokenizer cannot write down.

    Raises:
        ConfigurationError: The tokenizer has no chat template.
    """
    if form not in {*_STRINGS, "tokens"} and not getattr(tokenizer, "chat_template", None):
        raise ConfigurationError(
            f"The rows are conversations, but the tokenizer ({type(tokenizer).__name__}) has no chat template. Set "
            "`tokenizer.chat_template`, use the tokenizer of the instruction-tuned model, or turn the rows into "
            "`prompt` and `completion` strings."
        )


def _common_form(forms: Mapping[str, Form]) -> Form:
    if "tokens" in forms.values():
        listed = ", ".join(f"{name}: {form}" for name, form in forms.items())
        raise ConfigurationError(
            f"Rows with `input_ids` cannot be mixed with others as they are ({listed}). "
            "Pass tokenizer=, the one that the tokenised rows were made with."
        )
    return "prompt_completion" if all(form in _STRINGS for form in forms.values()) else "messages"


def _converted(rows: Rows, form: Form, target: Form) -> Rows:
    if form == target:
        return rows
    if target == "prompt_completion":
        return _mapped(rows, lambda row: {"prompt": "", "completion": row["text"]}, features=_string_features(target))
    return _mapped(rows, lambda row: {"messages": _as_messages(row, form)}, features=_message_features())


def _as_messages(row: Row, form: Form) -> list[dict[str, str]]:
    if form == "text":
        return [{"role": "assistant", "content": row["text"]}]
    if form == "prompt_completion":
        return [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]
    return [_plain(message) for message in [*row["prompt"], *row["completion"]]]


def _unify_schema(sides: Iterable[Rows], form: Form) -> tuple[Rows, ...]:
    columns = list(_COLUMNS[form])
    selected = tuple(rows.select_columns(columns) for rows in sides)
    known = selected[0].features
    if known is not None and all(rows.features == known for rows in selected):
        return selected
    if form in _STRINGS:
        return tuple(rows.cast(_string_features(form)) for rows in selected)
    features = Features(dict.fromkeys(columns, _message_features()["messages"]))
    return tuple(_mapped(rows, _plain_row, features=features) for rows in selected)


def _plain_row(row: Row) -> dict[str, Any]:
    return {column: [_plain(message) for message in messages] for column, messages in row.items()}


def _plain(message: Row) -> dict[str, str]:
    """Role and content, so that messages of two sources have one schema; anything else would get lost."""
    more = sorted(key for key, value in message.items() if key not in {"role", "content"} and value)
    if more or not isinstance(message.get("content"), str):
        raise CorpusError(
            f"Messages of the data sets have different schemas, and one has "
            f"{f'the further fields {more}' if more else 'no string as its content'}, which a common schema of role "
            "and content would lose. Tokenise the data sets before you mix them, or remove the fields."
        )
    return {"role": message["role"], "content": message["content"]}


def _unify_tokens(sides: Sequence[Rows]) -> tuple[Rows, ...]:
    """Labels on all sides, unless none says anything about the loss."""
    bare = all(not {"labels", *MASK_COLUMNS} & set(first_row(rows, name="rows")) for rows in sides)
    features = Features({"input_ids": TOKEN_FEATURES["input_ids"]}) if bare else TOKEN_FEATURES

    def convert(row: Row) -> dict[str, Any]:
        return {"input_ids": row["input_ids"]} | ({} if bare else {"labels": labels_of(row)})

    return tuple(_mapped(rows, convert, features=features) for rows in sides)


def _mapped(rows: Rows, convert: Callable[[Row], dict[str, Any]], *, features: Features) -> Rows:
    """`map` that keeps nothing but what `convert` returns, in a fixed schema."""
    columns: Iterable[str] = rows.column_names or first_row(rows, name="rows")
    return rows.map(convert, remove_columns=list(columns), features=features)


def _string_features(form: Form) -> Features:
    return Features(dict.fromkeys(_COLUMNS[form], Value("string")))


def _message_features() -> Features:
    return Features({"messages": List({"role": Value("string"), "content": Value("string")})})


def _text(row: Row, tokenizer: Any) -> tuple[list[int], list[int]]:
    tokens = _with_eos(tokenizer(row["text"])["input_ids"], tokenizer)
    return tokens, list(tokens)


def _completion(row: Row, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Both parts are tokenised as one text, as they are at inference; the prompt ends where the two differ."""
    prompt = tokenizer(row["prompt"])["input_ids"] if row["prompt"] else []
    tokens = _with_eos(tokenizer(row["prompt"] + row["completion"])["input_ids"], tokenizer)
    return tokens, _after(prompt, tokens)


def _conversation(row: Row, tokenizer: Any) -> tuple[list[int], list[int]]:
    marked = bool(_GENERATION.search(str(tokenizer.chat_template)))
    encoded = _templated(tokenizer, row["messages"], return_assistant_tokens_mask=marked)
    tokens = list(encoded["input_ids"])
    trained = encoded["assistant_masks"] if marked else [1] * len(tokens)
    return tokens, [token if keep else IGNORED for token, keep in zip(tokens, trained, strict=True)]


def _reply(row: Row, tokenizer: Any) -> tuple[list[int], list[int]]:
    prompt = _templated(tokenizer, row["prompt"], add_generation_prompt=True)["input_ids"]
    tokens = list(_templated(tokenizer, [*row["prompt"], *row["completion"]])["input_ids"])
    return tokens, _after(prompt, tokens)


def _templated(tokenizer: Any, messages: list[Any], **options: bool) -> Any:
    return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **options)


def _after(prompt: list[int], tokens: list[int]) -> list[int]:
    """Labels of the tokens behind the prefix that they share with the prompt."""
    pairs = zip(prompt, tokens, strict=False)
    shared = next((index for index, (left, right) in enumerate(pairs) if left != right), min(len(prompt), len(tokens)))
    return [IGNORED] * shared + tokens[shared:]


def _with_eos(tokens: list[int], tokenizer: Any) -> list[int]:
    eos = getattr(tokenizer, "eos_token_id", None)
    return [*tokens, eos] if eos is not None and tokens[-1:] != [eos] else list(tokens)
