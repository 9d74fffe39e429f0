"""What a YAML parser stumbled over, in plain words and with what to do about it. Pure text.

libyaml and PyYAML's own scanner say the same in different words; both are read here by their common parts.
"""

from __future__ import annotations

from typing import NamedTuple


class Broken(NamedTuple):
    """`from_start`: the place is where the broken part starts, not where the parser gave up."""

    message: str
    hint: str = ""
    from_start: bool = False


_TAB = Broken("a tab cannot stand here", "indent by spaces: YAML knows no tabs")
_QUOTE = Broken("a quote that does not end", "close it; inside single quotes a quote is written twice", from_start=True)
_COLON = Broken("a `:` cannot stand here", "a text that holds `: ` needs quotes, and a key needs a space after its `:`")
_NO_COLON = Broken("a `:` is missing after this", "a text that goes on in the next line needs indentation", True)
_NOTHING = Broken("a value is missing here", "look for a `,` too many, or a bracket that is not closed")
_UNFIT = Broken(
    "this does not fit to what stands before it",
    "look at the indentation, and put quotes around a whole text of which only the start is quoted",
)
_BLOCK = Broken(
    "nothing can stand after `|` or `>` in its line",
    "write the text into the lines below, indented; a text that begins with one of them needs quotes",
)
_QUOTES = "put the whole text into quotes"
TAG = "a `!` before a text is a tag, and tags are not used in policies"
TAG_HINT = "put the whole text into quotes, with its `!`: leaving it out changes what the text means"
COMMENT_HINT = "the ` #` begins a comment and ends the text: put the whole text into quotes, or take the comment out"
_ESCAPE = Broken("an escape that YAML does not have", "a backslash in double quotes is written `\\\\`")


def explain(problem: str, context: str, character: str, opened: int, line_above: str = "") -> Broken:
    """`character` is the one at the place, `opened` the line where the part that is broken starts."""
    if character == "\t":
        return _TAB
    if line_above and " #" in line_above and not line_above.lstrip().startswith("#"):
        return Broken("this does not belong to the text of the line above", COMMENT_HINT)
    if "unexpected end of stream" in problem and "quoted" in context:
        return _QUOTE
    if "cannot start any token" in problem:
        return _beginning("a backtick" if character == "`" else f"`{character}`")
    if character in _STARTS and ("not allowed in this context" in problem or "node content" in problem):
        return _beginning(_STARTS[character])
    if "an alias" in context or "an anchor" in context:
        return Broken("a text cannot begin with `*` or `&`", _QUOTES, from_start=True)
    if "',' or" in problem:
        bracket, closing = ("[", "]") if "']'" in problem else ("{", "}")
        return Broken(
            f"a `,` or `{closing}` is missing before this", f"the `{bracket}` of line {opened} is still open; {_FLOW}"
        )
    for part, found in _BY_PART.items():
        if part in problem:
            return found
    return Broken(f"this is not YAML: {problem or context}")


def _beginning(what: str) -> Broken:
    return Broken(f"a text cannot begin with {what}", _QUOTES)


_STARTS = {"-": "`- `", "?": "`? `"}
_FLOW = "a text with a quote, a bracket, a `: ` or a ` #` in it needs quotes around all of it"
_BY_PART = {
    "mapping values are not allowed": _COLON,
    "could not find expected ':'": _NO_COLON,
    "node content": _NOTHING,
    "unknown escape character": _ESCAPE,
    "comment or line break": _BLOCK,
    "chomping or indentation": _BLOCK,
    "did not find expected key": _UNFIT,
    "did not find expected '-' indicator": _UNFIT,
    "expected <block end>": _UNFIT,
}
