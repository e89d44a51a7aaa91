"""Pieces of instructions that do not fit the model: markers of other templates, roles that its template refuses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from hf_langcore.auditing.findings import Check, Finding
from hf_langcore.auditing.parts import Part, View, excerpt, prose
from hf_langcore.data.rows import Form

# What the chat formats in use put around a turn; a marker fits where the tokenizer or its template knows it.
_MARKERS = re.compile(
    r"<\|(?:im_start|im_end|im_sep|endoftext|system|user|assistant|end|begin_of_text|end_of_text|start_header_id|"
    r"end_header_id|eot_id|eom_id|python_tag|start_of_role|end_of_role|endofprompt|prompter|observation|channel|message|"
    r"start|return|call|START_OF_TURN_TOKEN|END_OF_TURN_TOKEN|USER_TOKEN|CHATBOT_TOKEN|SYSTEM_TOKEN)\|>"
    r"|\[/?INST\]|<<?/?SYS>>?|\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]"
    r"|</?(?:start_of_turn|end_of_turn)>|<\uff5c[^\uff5c<>\n]{2,40}\uff5c>|<(?:s|/s|bos|eos|unk|pad|mask)>|\[(?:CLS|SEP|PAD|MASK|UNK)\]"
    r"|^[ \t]*#{2,3} ?(?:Instruction|Input|Response|Human|Assistant) ?:"
    r"|Below is an instruction that describes a task",
    re.MULTILINE,
)
_LABEL = re.compile(
    r"(?:^|(?<=[.!?]) )[ \t*]*(Human|User|Assistant|HUMAN|USER|ASSISTANT|Bot|AI|ChatGPT)\*{0,2}:(?!//)",
    re.MULTILINE,
)
_ASSISTANTS = frozenset({"assistant", "bot", "ai", "chatgpt"})
_THOUGHT = re.compile(r".*</think>", re.DOTALL)
_TRAINED = ("assistant", "model", "gpt", "bot")


class TemplateCheck(Check):
    """Finds what does not fit the tokenizer's chat template; without a tokenizer every marker counts.

    Args:
        tokenizer: A transformers tokenizer, or None.
        form: The form of the rows; conversations are rendered with the template.
    """

    def __init__(self, tokenizer: Any, *, form: Form) -> None:
        self.form = form
        self.tokenizer = tokenizer
        self._known = _vocabulary(tokenizer)

    def examine(self, view: View) -> Iterable[Finding]:
        """Markers, labels, empty turns, and what the template says about the row."""
        if view.problem is not None:
            yield Finding(view.number, "template", "malformed", "row", view.problem, excerpt(str(dict(view.row))), 1.0)
            return
        yield from _first(self._markers(view))
        yield from _first(self._labels(view))
        yield from _first(self._empty(view))
        if self.tokenizer is not None and self.form in {"messages", "conversation_pair"}:
            yield from self._rendered(view)

    def _markers(self, view: View) -> Iterator[Finding]:
        for part in view.parts:
            text = prose(part.text)
            for match in _MARKERS.finditer(text):
                marker = match.group().strip()
                inside = part.role is not None  # a message that brings markers of its own breaks out of its turn
                if not inside and self._fits(marker):
                    continue
                detail = f"the marker {marker}" + (" inside a message" if inside and self._fits(marker) else "")
                shown = excerpt(text, match.start(), match.end())
                yield Finding(view.number, "template", "foreign_marker", part.name, detail, shown, 1.0)

    def _labels(self, view: View) -> Iterator[Finding]:
        """Both speakers' labels in one text, a message that begins with one, a text that ends in one."""
        for part in view.parts:
            text = prose(part.text)
            found = [match for match in _LABEL.finditer(text) if not self._fits(f"{match.group(1)}:")]
            speakers = {match.group(1).lower() in _ASSISTANTS for match in found}
            ends = found and not text[found[-1].end() :].strip()
            begins = found and part.role is not None and not text[: found[0].start()].strip()
            if speakers == {True, False} or ends or begins:
                first = found[-1] if ends else found[0]
                shown = excerpt(text, first.start(), first.end())
                detail = f"the label {first.group(1)}:"
                yield Finding(view.number, "template", "role_label", part.name, detail, shown, float(len(found)))

    def _empty(self, view: View) -> Iterator[Finding]:
        trained = [part for part in view.parts if _is_trained(part)]
        if not trained:
            yield Finding(
                view.number, "template", "empty", "row", "no turn of the assistant: nothing to train", "", 1.0
            )
        for part in trained:
            if not part.text.strip() and not _has_calls(view, part):
                name = f"an empty turn of the {part.role}" if part.role else f"an empty {part.name}"
                yield Finding(view.number, "template", "empty", part.name, name, "", 1.0)

    def _rendered(self, view: View) -> Iterator[Finding]:
        columns = ("messages",) if self.form == "messages" else ("prompt", "completion")
        messages = [message for column in columns for message in view.row[column]]
        try:
            text = str(self.tokenizer.apply_chat_template(messages, tokenize=False))
        except Exception as error:  # noqa: BLE001 templates raise what they like, and the row is what is judged
            roles = ", ".join(str(part.role) for part in view.parts)
            detail = f"the chat template refuses it: {error}"
            yield Finding(view.number, "template", "refused", "row", detail, f"roles: {roles}"[:120], 1.0)
            return
        for part in view.parts:
            content = _THOUGHT.sub("", part.text).strip()
            if content and content not in text:
                detail = f"the chat template leaves out what the role {part.role!r} says"
                yield Finding(view.number, "template", "dropped_message", part.name, detail, excerpt(content), 1.0)
                return

    def _fits(self, marker: str) -> bool:
        return marker in self._known


def _vocabulary(tokenizer: Any) -> str:
    """All that the tokenizer knows as a unit of its own, and its templates, as one text to search in."""
    if tokenizer is None:
        return ""
    special = [str(token) for token in getattr(tokenizer, "all_special_tokens", None) or ()]
    added = map(str, getattr(tokenizer, "get_added_vocab", dict)())
    template = getattr(tokenizer, "chat_template", None) or ""
    templates = template.values() if isinstance(template, dict) else [template]
    return "\n".join([*special, *added, *map(str, templates)])


def _first(found: Iterator[Finding]) -> Iterator[Finding]:
    one = next(found, None)
    if one is not None:
        yield one


def _is_trained(part: Part) -> bool:
    return part.name in {"text", "completion"} if part.role is None else part.role in _TRAINED


def _has_calls(view: View, part: Part) -> bool:
    column, _, index = part.name.rstrip("]").partition("[")
    return bool(index) and bool(view.row[column][int(index)].get("tool_calls"))
