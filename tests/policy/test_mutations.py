"""One letter wrong, anywhere in the shipped policies: it does not load, and the hint is what was meant.

Every key, category, rule id of an exemption, value of an enumeration, model, group, parameter, and every name in a
condition is found by walking the files. The suite tries some edits of each; `make mutations` tries them all.
"""

from __future__ import annotations

import os
import random
import re
import string
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from policyguard.policy.diagnostics import names_at
from policyguard.policy.document import Organisation, Surface
from policyguard.policy.expr import operations
from policyguard.policy.expr.types import NOT_YET_ROOTS, REQUEST, ROOTS
from policyguard.policy.load import check, load
from policyguard.policy.routes import PARAMETERS
from policyguard.policy.source import Source, Spot, read
from policyguard.policy.source import YAMLPath as Keys
from policyguard.policy.written import offset_of
from policyguard.pricing import price_book
from policyguard.request import CATEGORIES

SHIPPED = Path(__file__).parents[2] / "policies"
EVERY = os.environ.get("POLICYGUARD_MUTATIONS") == "all"
SOME = 6  # edits of one place, in the suite
KINDS = ("key", "category", "exempted rule", "value", "name", "condition")

# What the shipped files do not have and a policy may have.
ADDED = """
exempt:
  - {rules: [pro-quality, long-prompts], when: caller.tenant == "acme", until: 2027-01-31, by: ada, why: pilot}
"""
RULE = """
  - id: graphic
    when: >-
      scores["violence/graphic"] > 0.2 && scores.violence > 0.4
      || request.size in ["1024x1024"] && request.output_format in ["webp", "png"]
      || has(caller.feature) && caller.feature.startsWith("x") && ["a"].exists(it, it == caller.tenant)
    then: flag
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A name in a file; `names` are all that would be possible there, `line` and `column` where a problem stands."""

    kind: str
    file: str
    offset: int
    name: str
    names: frozenset[str]
    line: int
    column: int


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    found = {path.name: path.read_text() for path in sorted(SHIPPED.glob("*.yaml"))}
    found["avatars.yaml"] = found["avatars.yaml"].replace("rules:\n", f"rules:{RULE}", 1) + ADDED
    return found


# ---- where names stand ------------------------------------------------------------------------------------


def _paths(spot: Spot | None) -> Iterator[Path]:
    """Of every value of a file."""
    for name, below in spot.below.items() if spot else ():
        yield (name,)
        yield from ((name, *path) for path in _paths(below))


def places(file: str, text: str, org: Source) -> Iterator[Place]:
    source = read(file, text.encode())
    model = Organisation if file == "org.yaml" else Surface
    for path in _paths(source.spot):
        if not isinstance(path[-1], str):
            continue
        names, kind = _keys(model, path)
        mark = source.mark(path, key=True)
        if names:
            yield Place(kind, file, mark.offset, str(path[-1]), frozenset(names), mark.line, mark.column)
    for path in _paths(source.spot):
        value, mark = source.at(path), source.mark(path)
        if not isinstance(value, str):
            continue
        names, kind, start = _values(model, path, source, org)
        if names:
            at = mark.offset + bool(mark.style) + start
            column = mark.column
            yield Place(kind, file, at, value[start:], frozenset(names), mark.line, column)
        elif path[-1] == "when":
            yield from _condition(file, source, path, org)


def _keys(model: type[BaseModel], path: Keys) -> tuple[list[str], str]:
    if path[-2:-1] in (("deny_at",), ("review_at",)):
        return ["default", *CATEGORIES], "category"
    if path[-2:-1] in (("fields",), ("constants",)):
        return list(PARAMETERS), "name"
    names = names_at(model, path[:-1])
    return (names if path[-1] in names else []), "key"  # else a name that the file itself declares


def _values(model: type[BaseModel], path: Keys, source: Source, org: Source) -> tuple[list[str], str, int]:
    """The possible names, their kind, and where the name starts in the value."""
    value = str(source.at(path))
    if options := _options(model, path):
        return options, "value", 0
    if path[0] == "exempt" and path[2] == "rules":
        return [row["id"] for row in source.data["rules"]], "exempted rule", 0
    if "models" in path or path[-2:] == ("constants", "model"):
        return [name for name, row in price_book().models.items() if row.usable], "name", 0
    if path[-2:] == ("constants", "quality"):
        return list(REQUEST["quality"].values), "name", 0
    if value.startswith("group:"):
        return list(org.data["groups"]), "name", len("group:")
    if path[-1] == "per":
        return list(org.data["caller"]), "name", len("caller.")
    if path[0] == "caller" and path[-1] == "default" and "values" in org.data["caller"][path[1]]:
        return list(org.data["caller"][path[1]]["values"]), "value", 0
    return [], "", 0


def _options(kind: Any, path: Keys) -> list[str]:
    """The texts of the enumeration at `path`."""
    if not path:
        if get_origin(kind) is Literal:
            return [str(option) for option in get_args(kind)]
        return (
            [option for form in get_args(kind) for option in _options(form, ())] if get_origin(kind) is not list else []
        )
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        named = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
        return _options(named.get(str(path[0])), path[1:])
    if get_origin(kind) in (list, dict):
        return _options(get_args(kind)[-1], path[1:])
    return [option for form in get_args(kind) for option in _options(form, path)]


def _forms(kind: Any) -> tuple[Any, ...]:
    return () if get_origin(kind) in (list, dict) else get_args(kind)


def _condition(file: str, source: Source, path: Keys, org: Source) -> Iterator[Place]:
    """Every name in a condition, and every text that is one of an enumeration."""
    text, mark = str(source.at(path)), source.mark(path)
    quoted = [(m.start(), m.end()) for m in re.finditer(r'"[^"]*"', text)]
    for word in re.finditer(r"[A-Za-z_][\w/-]*", text):
        inside = any(start < word.start() < end for start, end in quoted)
        names = _in_quotes(text, word, org) if inside else _outside(text, word, org)
        if names and word[0] in names:
            at = offset_of(source.text, mark.offset, mark.style, text, word.start())
            before = source.text[:at]
            column = at - before.rfind("\n") - inside  # a text's problem stands at its quote
            yield Place("condition", file, at, word[0], frozenset(names), before.count("\n") + 1, column)


def _outside(text: str, word: re.Match[str], org: Source) -> list[str]:
    before, called = text[: word.start()], text[word.end() :].startswith("(")
    methods = [name[1:] for name in operations.FUNCTIONS if name.startswith(".")]
    if before.endswith("."):
        if called:
            return [*methods, *operations.LOOPS, *operations.REFUSED]
        root = before[:-1].rsplit(" ", 1)[-1].rsplit("(", 1)[-1]
        return {"request": list(REQUEST), "caller": list(org.data["caller"]), "scores": list(CATEGORIES)}.get(root, [])
    if called:
        functions = [name for name in operations.FUNCTIONS if not name.startswith(".")]
        return ["has", *functions, *operations.REFUSED]
    return [*ROOTS, *NOT_YET_ROOTS, "google", "true", "false"] if word[0] in ROOTS else []


def _in_quotes(text: str, word: re.Match[str], org: Source) -> list[str]:
    before = text[: word.start()]
    if before.endswith('scores["'):
        return list(CATEGORIES)
    compared = re.search(r'(request|caller)\.(\w+) (?:==|!=|in) \[?(?:"\w+", )*"$', before)
    if compared is None:
        return []
    if compared[1] == "request":
        return list(REQUEST[compared[2]].values)
    return list(org.data["caller"][compared[2]].get("values", []))


# ---- edits ------------------------------------------------------------------------------------------------


def edits(name: str) -> list[str]:
    """Every text that is one letter away: left out, added, exchanged, or swapped with its neighbour."""
    found: dict[str, None] = {}
    for at in range(len(name) + 1):
        head, tail = name[:at], name[at:]
        found.update(dict.fromkeys(head + letter + tail for letter in string.ascii_lowercase))
        if tail:
            found[head + tail[1:]] = None
            found.update(dict.fromkeys(head + letter + tail[1:] for letter in string.ascii_lowercase))
        if len(tail) > 1:
            found[head + tail[1] + tail[0] + tail[2:]] = None
    found.pop(name, None)
    return list(found)


def test_the_edits_of_a_word_are_counted() -> None:
    assert sorted(e for e in edits("ab") if set(e) <= set("abc")) == sorted(
        ["a", "b", "ba", "aa", "bb", "ac", "cb", *("aab", "bab", "cab", "abb", "acb", "aba", "abc")]
    )
    assert len(edits("ab")) == 2 + (3 * 26 - 2) + 2 * 25 + 1


def excluded(place: Place, edit: str) -> str:
    """Why an edit is no mistake that could be seen; empty where it is one."""
    if edit in place.names:
        return "another valid name"
    if not edit:
        return "nothing is left"
    if place.kind == "condition" and edit in ("in", "as", "if", "for", "let", "var", "null", "true", "false"):
        return "a reserved word"
    return ""


def chosen(place: Place, every: list[str]) -> list[str]:
    if EVERY or len(every) <= SOME:
        return every
    return random.Random(f"{place.file}{place.name}{place.kind}").sample(every, SOME)


def wrong(folder: Path, place: Place, edit: str, text: str) -> str:
    """What is not as it must be, for one edit of one place; empty where it is an error with the right hint."""
    changed = text[: place.offset] + edit + text[place.offset + len(place.name) :]
    (folder / place.file).write_text(changed)
    hints = [
        p.hint for p in check(folder) if p.severity == "error" and (p.line, p.column) == (place.line, place.column)
    ]
    meant = [re.match(r"did you mean (.*?)\?", hint) for hint in hints]
    if any(match and f"`{place.name}`" in match[1] for match in meant):
        return ""
    return f"{place.file}:{place.line}:{place.column} {place.name} -> {edit}: {hints}"


@pytest.mark.parametrize("kind", KINDS)
def test_one_letter_wrong_is_an_error_with_the_original_as_the_hint(
    tmp_path: Path, texts: dict[str, str], kind: str
) -> None:
    org = read("org.yaml", texts["org.yaml"].encode())
    seen: set[tuple[str, frozenset[str]]] = set()
    found: list[str] = []
    count: Counter[str] = Counter()
    for file, text in texts.items():
        folder = tmp_path / file
        folder.mkdir()
        beside = "avatars.yaml" if file == "org.yaml" else "org.yaml"
        (folder / beside).write_text(texts[beside])
        (folder / file).write_text(text)
        load(folder)  # before the edits it is good
        for place in places(file, text, org):
            if place.kind != kind or (place.name, place.names) in seen:
                continue  # the same name of the same list in another place
            seen.add((place.name, place.names))
            count["places"] += 1
            for edit in chosen(place, edits(place.name)):
                why = excluded(place, edit)
                count[why or "errors"] += 1
                if not why and (problem := wrong(folder, place, edit, text)):
                    found.append(problem)
        (folder / file).write_text(text)
    print(f"\n{kind}: {dict(count)}")
    assert found == []
    assert count["places"] >= {"exempted rule": 2, "category": 2}.get(kind, 5)
    assert count["errors"] > 0.9 * (sum(count.values()) - count["places"])
