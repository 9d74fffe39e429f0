"""Text to syntax tree, by cel-python's grammar, within limits.

The only module that imports lark and looks into cel-python, on the first condition. Only the grammar is used, by a
parser of our own: importing celpy takes four times as long, its `Environment` raises the recursion limit of the whole
process, and its one shared parser would then belong to whoever came first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from policyguard.policy.expr import letters
from policyguard.policy.expr.literals import value_of
from policyguard.policy.expr.scan import Unfinished, scan
from policyguard.policy.expr.syntax import (
    Arithmetic,
    At,
    Choice,
    Field,
    FunctionCall,
    Index,
    Items,
    Literal,
    LiteralKind,
    Logic,
    Name,
    Node,
    Relation,
    Slot,
    TextSpan,
    Unary,
    Wrong,
)
from policyguard.policy.expr.types import ExpressionErrors, Problem
from policyguard.text.suggest import shown

MAX_CHARS = 10_000
MAX_NODES = 500
MAX_DEPTH = 30
MAX_CHAIN = 100  # operands of one chain
_RESERVED = re.compile(
    "as|break|const|continue|else|for|function|if|import|in|let|loop|namespace|null|package|return|var|void|while"
)
_LEVELS = frozenset({"expr", "conditionalor", "conditionaland", "relation", "addition", "multiplication"}) | {
    *("unary", "member", "primary")
}
_SIGNS = {
    "relation_lt": "<",
    "relation_le": "<=",
    "relation_gt": ">",
    "relation_ge": ">=",
    "relation_eq": "==",
    "relation_ne": "!=",
    "relation_in": "in",
    "addition_add": "+",
    "addition_sub": "-",
    "multiplication_mul": "*",
    "multiplication_div": "/",
    "multiplication_mod": "%",
    "unary_not": "!",
    "unary_neg": "-",
    "conditionalor": "||",
    "conditionaland": "&&",
}
_KINDS: Mapping[str, LiteralKind] = {
    "STRING_LIT": "text",
    "MLSTRING_LIT": "text",
    "INT_LIT": "int",
    "FLOAT_LIT": "double",
}
_UNSUPPORTED = {
    "map_lit": "maps",
    "member_object": "messages",
    "dot_ident": "names with a leading dot",
    "dot_ident_arg": "names with a leading dot",
    "UINT_LIT": "unsigned numbers",
    "BYTES_LIT": "bytes",
    "NULL_LIT": "`null`",
}
_NOT_IN = re.compile(r"not\s+in\b", re.IGNORECASE)
_MEANT = {"and": "&&", "or": "||", "not": "!", "=": "==", "&": "&&", "|": "||", "AND": "&&", "OR": "||", "NOT": "!"} | {
    **dict.fromkeys("“”„‘’«»", '"'),
    "≥": ">=",
    "≤": "<=",
    "≠": "!=",
    "×": "*",
    "–": "-",
    "−": "-",
}


@dataclass(frozen=True, slots=True)
class ParsedCondition:
    """The tree, the literals in it, and what is wrong already."""

    root: Node
    slots: tuple[Slot, ...]
    problems: tuple[Problem, ...]


def parse(source: str) -> ParsedCondition:
    """Raises `ExpressionErrors` where there is no tree, or one beyond the limits."""
    if len(source) > MAX_CHARS:
        raise _error(At(1, 1), "PG409", f"the expression is longer than {MAX_CHARS:,} characters")
    try:
        scanned = scan(source)
    except Unfinished as unfinished:
        at = _at_offset(source, unfinished.offset)
        hint = "close its quote in the same line; a backslash before a quote keeps the text open"
        raise _error(at, "PG401", "a text that does not end", hint) from None
    reader = _TreeBuilder()
    reader.problems += [
        Problem(*_at_offset(source, odd.offset), "PG415", odd.message, odd.hint)
        for odd in letters.odd(source, scanned.spans)
    ]
    root = reader.node(_tree(source), 1)
    return ParsedCondition(root, tuple(reader.slots), tuple(reader.problems))


def _error(at: At, code: str, message: str, hint: str = "") -> ExpressionErrors:
    return ExpressionErrors((Problem(at.line, at.column, code, message, hint),))


def _at_offset(source: str, offset: int) -> At:
    return At(source.count("\n", 0, offset) + 1, offset - source.rfind("\n", 0, offset))


@cache
def _parser() -> Any:
    """cel-python's grammar with its parser's options, and true and false with their positions."""
    import lark

    found = find_spec("celpy")
    folder = Path(((found and found.submodule_search_locations) or [""])[0])
    return lark.Lark(
        (folder / "cel.lark").read_text(encoding="utf-8"),
        parser="lalr",
        start="expr",
        lexer_callbacks={"IDENT": lambda t: t.update("BOOL_LIT") if t in ("true", "false") else t},
        propagate_positions=True,
        maybe_placeholders=False,
        priority="invert",
    )


def _tree(source: str) -> Any:
    try:
        return _parser().parse(source)
    except Exception as error:
        raise _unparsed(source, error) from None


def _unparsed(source: str, error: Exception) -> ExpressionErrors:
    """lark's error in our words: the place, and what stands there."""
    token = getattr(error, "token", None)
    offset = getattr(error, "pos_in_stream", None)
    ended = getattr(token, "type", "$END" if not source.strip() else "") == "$END"
    if ended or not isinstance(offset, int):
        return _error(_at_offset(source, len(source.rstrip())), "PG401", "the expression ends too early")
    text = str(token) if token else source[offset : offset + 1]
    hint = f"write `{_MEANT[text]}`" if text in _MEANT else letters.meant(text) or "see the CEL language definition"
    if _NOT_IN.match(source, offset):
        hint = "write `!(... in [...])`"
    return _error(_at_offset(source, offset), "PG401", f"{shown(text)} cannot stand here", hint)


def _at(tree: Any) -> At:
    place = getattr(tree, "meta", tree)
    return At(place.line, place.column)


class _TreeBuilder:
    """Builds the syntax tree from lark's. Recursion is as deep as the nesting, which is limited."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []
        self.problems: list[Problem] = []
        self.nodes = 0

    def node(self, tree: Any, depth: int) -> Node:
        while tree.data in _LEVELS and len(tree.children) == 1:
            tree = tree.children[0]
        if depth > MAX_DEPTH:
            raise _error(_at(tree), "PG409", f"the expression is nested more than {MAX_DEPTH} deep")
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _error(At(1, 1), "PG409", f"the expression has more than {MAX_NODES} parts")
        if tree.data in _UNSUPPORTED:
            return self._unsupported(_at(tree), tree.data)
        return _READ[tree.data](self, tree, depth + 1)

    def _wrong(self, at: At, code: str, message: str, hint: str = "") -> Wrong:
        self.problems.append(Problem(at.line, at.column, code, message, hint))
        return Wrong(at)

    def _unsupported(self, at: At, kind: str) -> Wrong:
        return self._wrong(at, "PG414", f"policies do not use {_UNSUPPORTED[kind]}")

    def _choice(self, tree: Any, depth: int) -> Node:
        return Choice(_at(tree), *(self.node(child, depth) for child in tree.children))

    def _logic(self, tree: Any, depth: int) -> Node:
        spine = _spine(tree)
        return Logic(_at(tree), _SIGNS[tree.data], tuple(self.node(part, depth) for part in spine))

    def _relation(self, tree: Any, depth: int) -> Node:
        left, right = tree.children
        sign = _SIGNS[left.data]
        return Relation(_at(tree), sign, self.node(left.children[0], depth), self.node(right, depth))

    def _arithmetic(self, tree: Any, depth: int) -> Node:
        chain: list[tuple[str, Any]] = []
        level = tree
        while level.data == tree.data and len(level.children) == 2:
            left, right = level.children
            chain.append((_SIGNS[left.data], right))
            level = left.children[0]
        _check_chain(tree, len(chain) + 1)
        first = self.node(level, depth)
        return Arithmetic(_at(tree), first, tuple((sign, self.node(part, depth)) for sign, part in reversed(chain)))

    def _unary(self, tree: Any, depth: int) -> Node:
        sign, operand = tree.children
        return Unary(_at(tree), _SIGNS[sign.data], self.node(operand, depth))

    def _field(self, tree: Any, depth: int) -> Node:
        operand, name = tree.children
        return Field(_at(tree), self.node(operand, depth), str(name), _at(name))

    def _index(self, tree: Any, depth: int) -> Node:
        operand, index = tree.children
        return Index(_at(tree), self.node(operand, depth), self.node(index, depth))

    def _method(self, tree: Any, depth: int) -> Node:
        target = self.node(tree.children[0], depth)
        return self._call(tree, tree.children[1:], target, depth)

    def _function(self, tree: Any, depth: int) -> Node:
        return self._call(tree, tree.children, None, depth)

    def _call(self, tree: Any, rest: list[Any], target: Node | None, depth: int) -> Node:
        name, arguments = rest[0], rest[1].children if len(rest) > 1 else []
        parts = tuple(self.node(argument, depth) for argument in arguments)
        return FunctionCall(_at(tree), str(name), _at(name), target, parts)

    def _name(self, tree: Any, depth: int) -> Node:
        name = str(tree.children[0])
        if _RESERVED.fullmatch(name):
            return self._wrong(_at(tree), "PG401", f"`{name}` is a reserved word")
        return Name(_at(tree), name)

    def _brackets(self, tree: Any, depth: int) -> Node:
        return self.node(tree.children[0], depth)

    def _items(self, tree: Any, depth: int) -> Node:
        items = tree.children[0].children if tree.children else []
        return Items(_at(tree), tuple(self.node(item, depth) for item in items))

    def _literal(self, tree: Any, depth: int) -> Node:
        token = tree.children[0]
        at, text = _at(token), str(token)
        if token.type == "BOOL_LIT":
            return Literal(at, text == "true")
        if token.type in _UNSUPPORTED:
            return self._unsupported(at, token.type)
        kind, negative = _KINDS[token.type], text.startswith("-")
        try:
            value = value_of(kind, text)
        except ValueError as error:
            return self._wrong(at, "PG401", str(error))
        self.slots.append(Slot(TextSpan(token.start_pos + negative, token.end_pos, kind), negative, value, at))
        return Literal(at, value, len(self.slots) - 1)


def _spine(tree: Any) -> list[Any]:
    """The operands of a chain of `&&` or `||`, from the left."""
    operands: list[Any] = []
    level = tree
    while level.data == tree.data and len(level.children) == 2:
        operands.append(level.children[1])
        level = level.children[0]
    operands.append(level)
    _check_chain(tree, len(operands))
    return operands[::-1]


def _check_chain(tree: Any, count: int) -> None:
    if count > MAX_CHAIN:
        raise _error(_at(tree), "PG409", f"one chain joins {count} parts, {MAX_CHAIN} are possible")


_READ: Mapping[str, Callable[[_TreeBuilder, Any, int], Node]] = {
    "expr": _TreeBuilder._choice,
    "conditionalor": _TreeBuilder._logic,
    "conditionaland": _TreeBuilder._logic,
    "relation": _TreeBuilder._relation,
    "addition": _TreeBuilder._arithmetic,
    "multiplication": _TreeBuilder._arithmetic,
    "unary": _TreeBuilder._unary,
    "member_dot": _TreeBuilder._field,
    "member_dot_arg": _TreeBuilder._method,
    "member_index": _TreeBuilder._index,
    "ident_arg": _TreeBuilder._function,
    "ident": _TreeBuilder._name,
    "paren_expr": _TreeBuilder._brackets,
    "list_lit": _TreeBuilder._items,
    "literal": _TreeBuilder._literal,
}
