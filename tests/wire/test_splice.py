"""Byte-true: with nothing to force a body is the same, else it reads as before but for what was forced."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support import MODEL, request

from policyguard.policy.model import Place, Route
from policyguard.wire.edits_json import read_json_edit
from policyguard.wire.generations import read_generation
from policyguard.wire.own import read_own
from policyguard.wire.splice import GONE, Inside, joined, splice

JSON = "application/json"
SPACE = st.text(alphabet=" \t\n\r", max_size=3)
TEXT = st.text(max_size=8).filter(lambda text: text.isprintable() or text.isascii())
ESCAPED = TEXT.flatmap(lambda text: st.sampled_from([json.dumps(text), json.dumps(text, ensure_ascii=False)]))
VALUES = st.recursive(
    st.sampled_from(["1e2", "-0", "0.10", "1E+2", "null", "true", "12345678901234567", '"\\u0041\\/"', '"NaN"'])
    | ESCAPED,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + " ,".join(items) + "]")
        | st.dictionaries(TEXT.map(json.dumps), inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"{key} :{value}" for key, value in items.items()) + " }"
        )
    ),
    max_leaves=6,
)
FORCED = {"model": MODEL, "size": "1024x1024", "quality": "low", "n": 1, "moderation": "auto"}


@st.composite
def bodies(draw: st.DrawFn, members: dict[str, Any], changed: tuple[str, ...] = ()) -> bytes:
    """A JSON object with `members` as they are, some of `changed` as something else, and others, oddly spaced."""
    written = {json.dumps(name): json.dumps(value) for name, value in members.items()}
    for name in draw(st.lists(st.sampled_from(changed), unique=True)) if changed else ():
        spelt = draw(st.sampled_from([json.dumps(name), '"' + "".join(f"\\u{ord(c):04x}" for c in name) + '"']))
        written[spelt] = draw(st.sampled_from(['"low"', "null", "2", '"1024x1536"', "{}", "[1, 2]"]))
    names = st.text(min_size=1, max_size=5).filter(
        lambda n: n not in FORCED and n not in ("prompt", "user") and n.isascii()
    )
    for name, value in draw(st.dictionaries(names, VALUES, max_size=4)).items():
        if value != "null":  # absence, which does not go on
            written[json.dumps(name)] = value
    items = draw(st.permutations(list(written.items())))
    parts = [draw(SPACE) + key + draw(SPACE) + ":" + draw(SPACE) + value + draw(SPACE) for key, value in items]
    return (draw(SPACE) + "{" + ",".join(parts) + "}" + draw(SPACE)).encode()


def url() -> str:
    buffer = io.BytesIO()
    Image.new("RGBA", (64, 48), "teal").save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@given(bodies({"prompt": "ein Fuchs é", **FORCED}))
def test_with_nothing_to_force_a_body_is_the_same_to_the_byte(body: bytes) -> None:
    assert read_generation(body, JSON).write(request(prompt="ein Fuchs é"), None) == (body, JSON)


@given(bodies({}, ("model", "size", "n", "moderation", "safety_identifier")))
def test_a_change_leaves_every_other_member_as_it_was_spelt(body: bytes) -> None:
    changes = {**FORCED, "safety_identifier": GONE}
    written = joined(body, splice(body, changes))
    before, after = (
        json.loads(body, parse_float=str, parse_int=str),
        json.loads(written, parse_float=str, parse_int=str),
    )
    kept = {name: value for name, value in before.items() if name not in changes}
    assert after == {**kept, **json.loads(json.dumps(FORCED), parse_int=str)}
    assert [name for name in after if name in kept] == list(kept)


@given(bodies({}, ("model", "size", "n", "moderation", "safety_identifier")))
def test_who_knows_the_keys_gets_the_same_bytes(body: bytes) -> None:
    changes = {**FORCED, "safety_identifier": "sid"}
    assert joined(body, splice(body, changes, json.loads(body))) == joined(body, splice(body, changes))


@given(bodies({"a": 1}))
def test_pieces_without_changes_are_the_whole(body: bytes) -> None:
    assert joined(body, splice(body, {})) == body


@pytest.mark.parametrize(
    ("body", "changes", "expected"),
    [
        (b"{ }", {"n": 1}, b'{"n":1 }'),
        (b'{"a" : 1e2 }', {"n": 1}, b'{"a" : 1e2 ,"n":1}'),
        (b'{"n": 5, "a": 1}', {"n": 2}, b'{"n": 2, "a": 1}'),
        (b'{"n": 5, "a": 1}', {"n": GONE}, b'{ "a": 1}'),
        (b'{"a": 1, "n": 5}', {"n": GONE}, b'{"a": 1}'),
        (b'{"n": 5}', {"n": GONE}, b"{}"),
        (b'{"n": 5}', {"n": GONE, "m": 1}, b'{"m":1}'),
        (b'{"o": {"n": 5, "x": 1.0}}', {"o": Inside(n=2)}, b'{"o": {"n": 2, "x": 1.0}}'),
        (b'{"o": {}}', {"o": Inside(p=Inside(n=2))}, b'{"o": {"p":{"n":2}}}'),
        ('{"é": {"n": 5}}'.encode(), {"é": Inside(n=2)}, '{"é": {"n": 2}}'.encode()),
        (b'{"\\u00e9": 5}', {"é": 2}, b'{"\\u00e9": 2}'),
    ],
)
def test_a_member_is_changed_in_place_added_at_the_end_or_gone(body: bytes, changes: Any, expected: bytes) -> None:
    assert joined(body, splice(body, changes)) == expected


def test_an_edit_keeps_its_pictures_where_they_were() -> None:
    images = f'[{{"image_url":  "{url()}"}} , {{"image_url":"{url()}"}}]'
    body = (
        f'{{"n": 4, "images": {images}, "prompt": "é", "output_compression": 50, "mask": {{"image_url": "{url()}"}}}}'
    )
    written = read_json_edit(body.encode(), JSON).write(request(n=2), "sid")[0].decode()
    added = f',"model":"{MODEL}","size":"1024x1024","quality":"low","moderation":"auto","safety_identifier":"sid"}}'
    assert written == body.replace('"n": 4', '"n": 2')[:-1] + added
    assert read_json_edit(written.encode(), JSON).write(request(n=2), "sid")[0].decode() == written


def test_an_edit_with_nothing_to_force_is_not_copied() -> None:
    body = json.dumps({"prompt": "a cat", **FORCED, "images": [{"image_url": url()}]}).encode()
    assert read_json_edit(body, JSON).write(request(), None)[0] is body


def test_an_own_routes_body_keeps_the_apps_spelling() -> None:
    fields = {"prompt": ("input", "text"), "n": ("opts", "count")}
    constants = {"model": MODEL, "size": "1024x1024", "quality": "low"}
    route = Route(method="POST", path="/a", shape="custom", place=Place("a", 1), fields=fields, constants=constants)
    body = b'{"input": {"text": "a", "mood": 1e2},\n "x": 1.50}'
    written = read_own(body, JSON, route).write(request(n=2), "sid")[0]
    assert written == b'{"input": {"text": "a", "mood": 1e2},\n "x": 1.50,"opts":{"count":2}}'
    assert read_own(written, JSON, route).write(request(n=2), "sid")[0] is written


def test_how_many_partial_images_a_stream_has_is_written_and_otherwise_nothing() -> None:
    parsed = read_generation(b'{"prompt": "a", "stream": true}', JSON)
    written = json.loads(parsed.write(request(stream=True, partial_images=0), None)[0])
    assert (written["stream"], written["partial_images"]) == (True, 0)
    assert "partial_images" not in json.loads(read_generation(b'{"prompt": "a"}', JSON).write(request(), None)[0])


KEY = TEXT.filter(lambda text: text != "new")


@given(st.lists(st.dictionaries(KEY, st.integers() | TEXT, max_size=3), min_size=1), st.data())
def test_one_element_of_a_list_changes_and_the_others_keep_their_bytes(rows: list[dict[str, Any]], data: Any) -> None:
    at, escaped = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.booleans())
    before, after = data.draw(SPACE), data.draw(SPACE)
    texts = [json.dumps(row, ensure_ascii=escaped) for row in rows]

    def body(elements: list[str]) -> bytes:
        return f'{{"a": 1, "rows":{before}[{after}{f"{before},{after}".join(elements)}{before}] }}'.encode()

    changed = [*texts]
    changed[at] = texts[at][:-1] + ("," if rows[at] else "") + '"new":7}'
    assert joined(body(texts), splice(body(texts), {"rows": Inside({at: Inside({"new": 7})})})) == body(changed)


@given(st.lists(VALUES, min_size=1, max_size=5), st.data(), SPACE)
def test_an_element_is_taken_out_of_a_list_and_the_others_stay_as_they_are(
    items: list[str], data: st.DataObject, space: str
) -> None:
    gone = data.draw(st.sets(st.integers(0, len(items) - 1)))
    body = f'{{"a": [{space}{f"{space},{space}".join(items)}{space}]}}'.encode()
    changes = {"a": Inside(dict.fromkeys(gone, GONE))}
    left = [item for index, item in enumerate(items) if index not in gone]
    found = joined(body, splice(body, changes))
    assert json.loads(found) == {"a": [json.loads(item) for item in left]}
    assert all(item.encode() in found for item in left)
