"""Turns a test module about LoRA into one about CORE_REGION while it is imported; nothing of it is written anywhere.

PEFT's tests name LoRA in four ways: the imported classes (`LoraConfig`, `LoraLayer`, ...), attributes of layers
(`layer.lora_A["default"].weight`), keys of state dicts ("lin0.lora_A.default.weight") and words in messages or reprs
("lora.Linear"). Each of these has its counterpart here. Our factors are parameters, not modules, so the `.weight` after
a factor goes away, both in attributes and in keys.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_FACTOR = re.compile(r"^lora_(?:embedding_)?[AB]$")
_KEY = re.compile(r"lora_((?:embedding_)?[AB])(\.(?!weight\b)\w+)?(\.weight\b)?")
_LIKE_PREFIX = re.compile(r"lora_(?=foo|head)")  # modules of the base model that are named like the method on purpose


@dataclass(frozen=True)
class Names:
    """What LoRA's names become.

    Attributes:
        provider: Importable name of the module that has the classes.
        package: The package that the tests import them from.
        classes: Names that a test imports from there -> attribute of `provider`.
        prefix: Prefix of the method's parameters, such as "core_region_".
        words: Whole strings -> strings; those with a dot are also replaced inside longer strings.
        factor: "A", "B", "embedding_A" or "embedding_B" -> name of the parameter container; None leaves everything
            but the imports alone.
    """

    provider: str
    package: str
    classes: Mapping[str, str]
    prefix: str = ""
    words: Mapping[str, str] = field(default_factory=dict)
    factor: Callable[[str], str] | None = None

    def text(self, value: str) -> str:
        """A string of the tests with the method's names in place of LoRA's."""
        factor = self.factor
        if factor is None or value in self.words:
            return self.words.get(value, value)
        value = _KEY.sub(lambda match: factor(match[1]) + (match[2] or ""), value)
        value = _LIKE_PREFIX.sub(self.prefix, value)
        for old, new in self.words.items():
            if "." in old:  # class names as they stand in messages; single words are too short to replace anywhere
                value = value.replace(old, new)
        return value

    def attribute(self, name: str) -> str:
        """The counterpart of an attribute."""
        if self.factor is None:
            return name
        if _FACTOR.match(name):
            return self.factor(name.removeprefix("lora_"))
        return "init_weights" if name == "init_lora_weights" else _LIKE_PREFIX.sub(self.prefix, name)


class Rewriter(ast.NodeTransformer):
    """Applies `Names` to a module."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | list[ast.AST]:
        """Classes of LoRA come from the provider, the rest of the import stays."""
        if (node.module or "").partition(".")[0] != self._names.package:
            return node
        ours = [alias for alias in node.names if alias.name in self._names.classes]
        if not ours:
            return node
        swapped = ast.ImportFrom(
            module=self._names.provider,
            names=[ast.alias(self._names.classes[alias.name], alias.asname or alias.name) for alias in ours],
            level=0,
        )
        statements: list[ast.AST] = [ast.copy_location(swapped, node)]
        node.names = [alias for alias in node.names if alias not in ours]
        if node.names:
            statements.insert(0, node)
        return statements

    def visit_Import(self, node: ast.Import) -> ast.AST:
        """`import package` as a whole."""
        if len(node.names) == 1 and node.names[0].name in self._names.classes:
            name = node.names[0].name
            alias = ast.alias(self._names.classes[name], node.names[0].asname or name)
            return ast.copy_location(ast.ImportFrom(module=self._names.provider, names=[alias], level=0), node)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """Keys and messages."""
        if isinstance(node.value, str):
            return ast.copy_location(ast.Constant(self._names.text(node.value), kind=node.kind), node)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Attributes of layers; `.weight` of a factor is the factor itself. Modules of LoRA by their full name."""
        full = ast.unparse(node)
        if full in self._names.classes:
            found = f"__import__({self._names.provider!r}).{self._names.classes[full]}"
            return ast.copy_location(ast.parse(found, mode="eval").body, node)
        is_weight = node.attr == "weight" and self._is_factor(node.value)
        self.generic_visit(node)
        if is_weight:
            return node.value
        node.attr = self._names.attribute(node.attr)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """`isinstance(<factor>, nn.Linear)` asks for the kind of container, which is a parameter here."""
        asks = isinstance(node.func, ast.Name) and node.func.id == "isinstance" and self._is_factor(node.args[0])
        self.generic_visit(node)
        if asks:
            node.args[1] = ast.copy_location(ast.parse("__import__('torch').nn.Parameter", mode="eval").body, node)
            ast.fix_missing_locations(node)
        return node

    def visit_Delete(self, node: ast.Delete) -> ast.AST | list[ast.AST]:
        """A module goes from a state dict with all its keys: after its B, its mask too."""
        lines = []
        for target in node.targets:
            key = target.slice if isinstance(target, ast.Subscript) else None
            if self._names.factor and isinstance(key, ast.Constant) and str(key.value).endswith("lora_B.weight"):
                mask = str(key.value).removesuffix("lora_B.weight") + f"{self._names.prefix}mask"
                lines.append(f"{ast.unparse(target.value)}.pop({mask!r}, None)")
        self.generic_visit(node)
        return [node, *(ast.copy_location(ast.parse(line).body[0], node) for line in lines)]

    def visit_DictComp(self, node: ast.DictComp) -> ast.AST:
        """`{k: torch.randn(...) for k, v in state_dict.items()}` invents weights; bits of masks are none."""
        invents = "torch.randn(" in ast.unparse(node.value) or "torch.ones_like(" in ast.unparse(node.value)
        self.generic_visit(node)
        target = node.generators[0].target
        if self._names.factor is not None and invents and isinstance(target, ast.Tuple):
            key, value = (ast.unparse(element) for element in target.elts)
            kept = f"{value} if '{self._names.prefix}mask' in {key} else {ast.unparse(node.value)}"
            node.value = ast.copy_location(ast.parse(kept, mode="eval").body, node)
        return node

    def _is_factor(self, node: ast.expr) -> bool:
        """Whether this is `<layer>.lora_A[<name>]` or `<layer>.lora_A.<name>`."""
        if self._names.factor is not None and isinstance(node, (ast.Subscript, ast.Attribute)):
            inner = node.value
            return isinstance(inner, ast.Attribute) and bool(_FACTOR.match(inner.attr))
        return False


def rewritten(tree: ast.Module, names: Names) -> ast.Module:
    """Replace the names in a parsed module; line numbers stay."""
    return ast.fix_missing_locations(Rewriter(names).visit(tree))
