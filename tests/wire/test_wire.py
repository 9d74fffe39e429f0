"""Bytes in, values out: what is read, what is refused, what is written back, what an answer means."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import re
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support import NOW, request

from policyguard import pricing
from policyguard.decision import Decision, Effect, Held, Kind, Place, Reason
from policyguard.errors import InvalidRequest
from policyguard.flow.refuse import refuse
from policyguard.policy.model import Route
from policyguard.request import Failure, Size, Usage
from policyguard.wire import json_body
from policyguard.wire.edits import read_edit
from policyguard.wire.generations import read_generation
from policyguard.wire.image_header import input_image
from policyguard.wire.json_body import parse_object
from policyguard.wire.outcome import read_outcome
from policyguard.wire.own import read_own
from policyguard.wire.refusals import render
from policyguard.wire.usage import usage_from

JSON = "application/json"
BOUNDARY = "x-boundary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def picture(form: str = "PNG", size: tuple[int, int] = (64, 48), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, "teal").save(buffer, form)
    return buffer.getvalue()


def form(*parts: tuple[str, bytes | str], boundary: str = BOUNDARY) -> bytes:
    """`("n", "2")` is a field, `('image"; filename="a.png', b"...")` a file."""
    lines = []
    for name, data in parts:
        raw = data.encode() if isinstance(data, str) else data
        lines.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + raw + b"\r\n")
    return b"".join(lines) + f"--{boundary}--\r\n".encode()


MASK = ('mask"; filename="m.png', picture(mode="RGBA"))
SECOND = ('image[]"; filename="b.jpg', picture("JPEG", (30, 20)))
FILE = ('image"; filename="a.png', picture())


# ---- JSON -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is no JSON"),
        (b"{", "the body is no JSON"),
        (b"[]", "the body must be a JSON object"),
        (b'"text"', "the body must be a JSON object"),
        (b'{"a": 1, "a": 2}', "a key is there twice"),
        (b'{"a": {"b": 1, "b": 1}}', "a key is there twice"),
        (b'{"a": NaN}', "a number is not finite"),
        (b'{"a": -Infinity}', "a number is not finite"),
        (b'{"a": 9223372036854775808}', "a whole number is too large"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "a whole number is too large"),
        (b'{"a": "\xff"}', "the body is no UTF-8 text"),
        (b'\xef\xbb\xbf{"a": 1}', "the body starts with a byte order mark"),
        ('{"a": 1}'.encode("utf-16"), "the body is no UTF-8 text"),
        (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "the body is nested more than 32 deep"),
        (b'{"a": 1} {"b": 2}', "the body is no JSON"),
        (b'{"a": 1e400}', "a number is too large or too long"),
        (b'{"a": 0.' + b"1" * 100 + b"}", "a number is too large or too long"),
        (b'{"a": "\\ud800"}', "a text holds half of a surrogate pair"),
        (b'{"a": ["\\udfff\\ud83d"]}', "a text holds half of a surrogate pair"),
        (b'{"\\uDABC": 1}', "a text holds half of a surrogate pair"),
    ],
)
def test_json_that_two_parsers_could_read_differently_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        parse_object(body)


def test_escaped_pairs_and_escaped_backslashes_are_characters() -> None:
    assert parse_object(b'{"a": "\\ud83d\\ude00", "b": "\\\\ud800"}') == {"a": "\U0001f600", "b": "\\ud800"}


@pytest.mark.parametrize("end", [b"", b"\\"])
def test_a_string_that_does_not_end_takes_linear_time(end: bytes) -> None:
    """Every quote in it could be taken for a beginning; at quadratic time this would not come back."""
    with pytest.raises(InvalidRequest, match="the body is no JSON"):
        parse_object(b'{"a": "' + b'\\"' * 400_000 + end)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"a": ' + b"[" * 500_000, "values"),
        (b'{"a": ' + b"]" * 500_000, "values"),
        (b'{"a": [' + b"1," * 400_000 + b"1]}", "values"),
        (b'{"a": [' + b'"",' * 200_000 + b'""]}', "values"),
        (b'{"a": [' + b"{}" * 51_000 + b"]}", "values"),
        (b'{"a": ["' + b'""' * 200_000 + b'"]}', "values"),
        (b'{"a": ' + b'{"b":' * 30_000, "keys"),
        (json.dumps({f"p{n}": n for n in range(60_000)}).encode(), "keys"),
    ],
)
def test_what_holds_up_a_parser_never_reaches_it(body: bytes, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser of C lets nobody else run meanwhile: half a million brackets took 140 ms, 60,000 keys 100 ms."""
    monkeypatch.setattr(json_body.json, "loads", lambda *_, **__: pytest.fail("it was parsed"))
    monkeypatch.setattr(json_body, "_BRACKETS", re.compile(rb"(?!)"))  # nor are they looked at one by one
    with pytest.raises(InvalidRequest, match=f"more than .*,000 {message}"):
        parse_object(body)


def test_a_large_conversation_is_no_attack() -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a, {b}: [c]" * 40}]}
    assert len(parse_object(json.dumps({"input": [item] * 3_000}).encode())["input"]) == 3_000
    assert len(parse_object(json.dumps({"vector": [0.25] * 40_000}).encode())["vector"]) == 40_000


@pytest.mark.parametrize("text", [r'"\\"', r'"\\\""', r'"a\\\\"', r'"\""', '""'])
def test_depth_is_counted_behind_texts_with_escapes(text: str) -> None:
    assert parse_object(f'{{"a": {text}, "b": {"[" * 31}{"]" * 31}}}'.encode())["a"] == json.loads(text)
    with pytest.raises(InvalidRequest, match="nested"):
        parse_object(f'{{"a": {text}, "b": {"[" * 32}{"]" * 32}}}'.encode())


def test_brackets_in_strings_are_no_nesting() -> None:
    assert parse_object(b'{"prompt": "' + b"[" * 100 + b'\\""}') == {"prompt": "[" * 100 + '"'}


@given(st.binary(max_size=100) | st.text(max_size=60).map(lambda t: json.dumps({"a": t}).encode()))
def test_no_bytes_escape_the_json_reader_with_another_exception(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert isinstance(parse_object(body), dict)


def test_a_generation_is_read_and_unknown_parameters_are_kept_apart() -> None:
    body = json.dumps({"prompt": "a cat", "n": 2, "quality": None, "messages": [1], "style": "vivid"}).encode()
    read = read_generation(body, JSON).request
    assert (read.prompt, read.n, read.quality, dict(read.extra)) == (
        "a cat",
        2,
        None,
        {"messages": [1], "style": "vivid"},
    )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("text/plain", "the content type must be application/json"),
        ("application/json; charset=utf-16", "the body must be UTF-8"),
        ("", "the content type must be application/json"),
        ("application/jsonx", "the content type must be application/json"),
    ],
)
def test_only_utf8_json_is_json(kind: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        read_generation(b'{"prompt": "a"}', kind)


def test_what_was_decided_is_written_and_everything_else_stays() -> None:
    body = '{"prompt": "ein Fuchs é", "n": 4, "moderation": "low", "output_format": "webp", "user": "u"}'.encode()
    parsed = read_generation(body, "application/json; charset=utf-8")
    written, kind = parsed.write(request(n=2), "sid")
    assert kind == JSON
    assert json.loads(written) == {
        "prompt": "ein Fuchs é",
        "n": 2,
        "moderation": "auto",
        "output_format": "webp",
        "user": "u",
        "model": "gpt-image-2-2026-04-21",
        "size": "1024x1024",
        "quality": "low",
        "safety_identifier": "sid",
    }


def test_what_is_decided_on_is_what_is_written() -> None:
    """Reading the written body again gives the very request that was decided."""
    parsed = read_generation(b'{"prompt": "a cat", "n": 4, "background": "opaque"}', JSON)
    decided = request(n=2, background="opaque")
    again = read_generation(parsed.write(decided, None)[0], JSON).request
    assert (again.n, again.size, again.model, again.background, again.prompt) == (
        2,
        "1024x1024",
        decided.model,
        "opaque",
        "a cat",
    )


# ---- forms ------------------------------------------------------------------------------------------------


def test_a_markup_is_a_picture_that_is_looked_at() -> None:
    read = read_edit(form(FILE, ('markup"; filename="m.png', picture(mode="RGBA")), ("prompt", "a")), FORM).request
    assert read.markup is not None
    assert list(read.input_images) == [*read.images, read.markup]
    with pytest.raises(InvalidRequest, match="do not go together"):
        read_edit(form(FILE, MASK, ('markup"; filename="m.png', picture(mode="RGBA")), ("prompt", "a")), FORM)


@pytest.mark.parametrize("name", ["prompt[]", "prompt[text]", "model[0]", "size[]"])
def test_a_field_that_some_read_as_another_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="` is one value, written `"):
        read_edit(form(FILE, ("prompt", "a"), (name, "b")), FORM)


def test_a_nested_field_is_a_parameter_of_its_own() -> None:
    read = read_edit(form(FILE, ("prompt", "a"), ("svg[model]", "m")), FORM).request
    assert dict(read.extra) == {"svg[model]": "m"}


def test_an_edit_is_read_with_its_images_and_mask() -> None:
    body = form(FILE, SECOND, MASK, ("prompt", "a hat"), ("n", "2"))
    read = read_edit(body, FORM).request
    assert (read.operation, read.prompt, read.n) == ("edit", "a hat", 2)
    assert [(i.media_type, i.size, i.filename) for i in read.images] == [
        ("image/png", Size(64, 48), "a.png"),
        ("image/jpeg", Size(30, 20), "b.jpg"),
    ]
    assert read.mask is not None


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (form(FILE, ("prompt", "a"), ("prompt", "b")), FORM, "a form field is there twice"),
        (form(FILE, ("prompt", "a"), ("n", "2.0")), FORM, "`n` must be a whole number"),
        (form(FILE, ("prompt", "a"), ("n", " 2")), FORM, "`n` must be a whole number"),
        (form(FILE, ("prompt", "a"), ("stream", "yes")), FORM, "`stream` must be true or false"),
        (form(FILE, ("prompt", b"\xff")), FORM, "a form field is no UTF-8 text"),
        (form(FILE), FORM, "`prompt` is missing"),
        (form(("prompt", "a")), FORM, "an edit needs at least one input image"),
        (
            form(("prompt", "a"), ("image", "not a file")),
            FORM,
            "`image` is a file, which needs a file name: `filename=`",
        ),
        (form(FILE, ('prompt"; filename="p.txt', "a")), FORM, "a file that is neither `image` nor `mask` nor `markup`"),
        (
            form(FILE, ('mask"; filename="m', picture()), ('mask"; filename="m', picture()), ("prompt", "a")),
            FORM,
            "`mask` is there twice",
        ),
        (form(*[FILE] * 17, ("prompt", "a")), FORM, "at most 16 input images are possible"),
        (
            form(FILE, ("prompt", "a"), ("_charset_", "utf-7")),
            FORM,
            'a form part has no plain name: write it as `name="prompt"`',
        ),
        (
            form(FILE, ("prompt", "a")).replace(b"\r\n\r\na", b"\r\nContent-Type: text/plain; charset=utf-7\r\n\r\na"),
            FORM,
            "a form field is no UTF-8 text",
        ),
        (
            form(FILE, ("prompt", "a")).replace(b"\r\n\r\na", b"\r\nContent-Type: application/json\r\n\r\na"),
            FORM,
            "a form part without a file name must be plain text",
        ),
        (
            form(FILE, ("prompt", "a")).replace(b'.png"', b'.png"\r\nContent-Type: multipart/mixed; boundary=y'),
            FORM,
            "a form part holds parts of its own",
        ),
        (
            form(FILE, ('moderation"; name="user', "low"), ("prompt", "a")),
            FORM,
            'a form part has no plain name: write it as `name="prompt"`',
        ),
        (
            form(FILE, ("user\"; name*=utf-8''moderation; x=\"", "low"), ("prompt", "a")),
            FORM,
            'a form part has no plain name: write it as `name="prompt"`',
        ),
        (
            form(FILE, (" moderation", "low"), ("prompt", "a")),
            FORM,
            'a form part has no plain name: write it as `name="prompt"`',
        ),
        (
            form(FILE, ("prompt", "a"), boundary='x"y'),
            'multipart/form-data; boundary="x\\"y"',
            "the content type of a form must be `multipart/form-data; boundary=...` and nothing else",
        ),
        (
            form(FILE, ('image[0]"; filename="x.png', picture()), ("prompt", "a")),
            FORM,
            "a file that is neither `image` nor `mask` nor `markup`",
        ),
        (
            form(FILE, ('IMAGE"; filename="x.png', picture()), ("prompt", "a")),
            FORM,
            "a file that is neither `image` nor `mask` nor `markup`",
        ),
        (form(FILE, ("prompt", "a" * 300_000)), FORM, "a form field is longer than 200,000 bytes"),
        (form(FILE, ("prompt", "a"))[:-10], FORM, "the form is cut off"),
        (
            form(FILE, ("prompt", "a")),
            "multipart/form-data",
            "the content type of a form must be `multipart/form-data; boundary=...` and nothing else",
        ),
        (form(FILE, ("prompt", "a")), "multipart/form-data; boundary=other", "the form cannot be read"),
        (
            form(FILE, ("prompt", "a")),
            JSON,
            "the content type of a form must be `multipart/form-data; boundary=...` and nothing else",
        ),
        (b"", FORM, "the form is cut off"),
        (
            form(FILE, ("prompt", "a")).replace(b'name="prompt"', b"name*=utf-8''prompt; filename*=x"),
            FORM,
            'a form part has no plain name: write it as `name="prompt"`',
        ),
        (
            form(FILE, ("prompt", "a")).replace(b"\r\n\r\na", b"\r\nContent-Transfer-Encoding: base64\r\n\r\na"),
            FORM,
            "a form part is encoded",
        ),
    ],
)
def test_a_form_that_is_wrong_or_ambiguous_is_refused(body: bytes, kind: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        read_edit(body, kind)


def test_a_form_is_written_back_byte_for_byte_without_moderation() -> None:
    photo = picture()
    fields_sent = [("prompt", "ein Hut é"), ("moderation", "low"), ("n", "4"), ("background", "opaque")]
    parsed = read_edit(form(('image"; filename="a b.png', photo), *fields_sent), FORM)
    written, kind = parsed.write(request(n=2), "sid")
    again = read_edit(written, kind)
    fields = {part.name: part.text for part in again.parts if part.filename is None}
    assert fields == {
        "prompt": "ein Hut é",
        "background": "opaque",
        "model": "gpt-image-2-2026-04-21",
        "size": "1024x1024",
        "quality": "low",
        "n": "2",
        "safety_identifier": "sid",
    }
    assert (again.request.images[0].data, again.request.images[0].filename) == (photo, "a b.png")


@given(st.binary(max_size=300))
def test_no_bytes_escape_the_form_reader_with_another_exception(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_edit(body, FORM)


# ---- pictures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(1, 1), (17, 300), (1024, 1536)])
def test_sizes_are_read_from_the_header(kind: str, size: tuple[int, int]) -> None:
    image = input_image(picture(kind, size))
    assert (image.size, image.media_type) == (size, f"image/{kind.lower()}")


def test_a_lossless_webp_has_a_size_too() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (33, 44), (1, 2, 3, 4)).save(buffer, "WEBP", lossless=True)
    assert input_image(buffer.getvalue()).size == (33, 44)


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a", picture()[:30], picture()[:60], picture("JPEG")[:20], picture("WEBP")[:20]]
)
def test_a_picture_that_is_broken_or_of_another_kind_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="`image` is no readable png, jpeg or webp"):
        input_image(data)


@given(st.sampled_from(["PNG", "JPEG", "WEBP"]), st.data())
def test_no_cut_or_changed_picture_escapes_with_another_exception(kind: str, data: Any) -> None:
    raw = bytearray(picture(kind))
    for _ in range(3):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidRequest):
        assert input_image(bytes(raw[: data.draw(st.integers(0, len(raw)))])).size is not None


# ---- an app's own route -----------------------------------------------------------------------------------

ANSWER_KEYS = ["data", "b64_json", "usage", "input_tokens", "output_tokens", "input_tokens_details", "text_tokens"]
ANSWER_KEYS += ["error", "code", "moderation_details", "moderation_stage", "size", "quality"]
OWN = Route(
    method="POST",
    path="/api/avatars",
    shape="custom",
    place=Place("a.yaml", 1),
    fields={"prompt": ("input", "text"), "n": ("count",)},
    constants={"model": "gpt-image-2-2026-04-21", "size": "1024x1024", "quality": "low"},
    usage=("result", "usage"),
    images=("result", "images", "[]", "b64"),
)


def test_an_own_route_is_read_from_its_fields_and_constants_and_written_back() -> None:
    parsed = read_own(b'{"input": {"text": "a cat", "mood": "calm"}, "count": 4}', JSON, OWN)
    assert (parsed.request.prompt, parsed.request.n, parsed.request.quality) == ("a cat", 4, "low")
    written = json.loads(parsed.write(request(n=2), "sid")[0])
    assert written == {"input": {"text": "a cat", "mood": "calm"}, "count": 2}


@pytest.mark.parametrize("opts", ["null", '"x"', "[1]"])
def test_a_place_that_cannot_be_written_back_is_refused_before_anything_is_reserved(opts: str) -> None:
    nested = replace(OWN, fields={"prompt": ("text",), "n": ("opts", "n")})
    with pytest.raises(InvalidRequest, match=r"`opts\.n` is no place for a value"):
        read_own(b'{"text": "a", "opts": ' + opts.encode() + b"}", JSON, nested)


def test_a_large_body_is_read_in_bounded_memory() -> None:
    body = b'{"prompt": "' + b"a\\n" * 300_000 + b'", "list": [' + b"1," * 40_000 + b"1]}"
    tracemalloc.start()
    parse_object(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * len(body)


def test_a_default_is_written_where_the_field_was_missing() -> None:
    written = json.loads(read_own(b'{"input": {"text": "a"}}', JSON, OWN).write(request(n=1), None)[0])
    assert written["count"] == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"text": "a"}', "`prompt` is missing"),
        (b'{"input": "a"}', "`input.text` is no place for a value"),
        (b'{"input": {"text": 5}}', "`prompt` must be a text that is not empty"),
        (b'{"input": {"text": "a"}, "count": "x"}', "`n` must be a whole number from 1 to 10"),
    ],
)
def test_an_own_route_without_its_fields_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        read_own(body, JSON, OWN)


# ---- answers ----------------------------------------------------------------------------------------------


def answer(document: Any, status: int = 200, route: Route | None = None, **headers: str) -> Any:
    return read_outcome(status, headers, json.dumps(document).encode(), route=route)


def test_usage_request_id_and_digests_are_read_from_an_answer() -> None:
    raw = b"picture"
    outcome = answer(
        {
            "data": [{"b64_json": base64.b64encode(raw).decode()}],
            "size": "1024x1024",
            "quality": "low",
            "usage": {
                "input_tokens": 50,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
                "output_tokens": 196,
            },
        },
        **{"x-request-id": "req_1"},
    )
    assert outcome.usage == Usage(input_text_tokens=10, input_image_tokens=40, output_image_tokens=196)
    assert (outcome.request_id, outcome.size, outcome.failure) == ("req_1", "1024x1024", None)
    assert outcome.image_digests == (hashlib.sha256(raw).hexdigest(),)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        {},
        {"input_tokens": 1},
        {"input_tokens": -1, "output_tokens": 1},
        {"input_tokens": True, "output_tokens": 1},
        {"input_tokens": 1.5, "output_tokens": 1},
        {"input_tokens": 10**12, "output_tokens": 1},
        {"input_tokens": 5, "output_tokens": 0},
    ],
)
def test_usage_that_cannot_be_believed_is_none(usage: Any) -> None:
    assert usage_from(usage) is None
    assert answer({"usage": usage}).failure is Failure.NO_USAGE


tokens = st.integers(0, 5_000)


@given(tokens, tokens, tokens, tokens, tokens, tokens)
def test_tokens_that_the_details_leave_out_are_billed_as_image_tokens(
    text_in: int, image_in: int, rest_in: int, text_out: int, image_out: int, rest_out: int
) -> None:
    """$5 and $8 for a million text and image tokens in, $10 and $30 out."""
    usage = usage_from(
        {
            "input_tokens": text_in + image_in + rest_in,
            "input_tokens_details": {"text_tokens": text_in, "image_tokens": image_in},
            "output_tokens": text_out + image_out + rest_out + 1,
            "output_tokens_details": {"text_tokens": text_out, "image_tokens": image_out},
        }
    )
    assert usage == Usage(
        input_text_tokens=text_in,
        input_image_tokens=image_in + rest_in,
        output_text_tokens=text_out,
        output_image_tokens=image_out + rest_out + 1,
    )
    by = {"text_in": 5000, "image_in": 8000, "text_out": 10_000, "image_out": 30_000}
    billed = 5 * text_in + 8 * (image_in + rest_in) + 10 * text_out + 30 * (image_out + rest_out + 1)
    assert pricing.bill(by, usage) == billed


def test_tokens_that_the_details_do_not_explain_count_as_the_dearer_kind() -> None:
    assert usage_from({"input_tokens": 50, "output_tokens": 7}) == Usage(input_image_tokens=50, output_image_tokens=7)


def test_an_error_carries_its_code_and_stage_and_no_usage() -> None:
    error = {"code": "moderation_blocked", "moderation_details": {"moderation_stage": "output"}}
    outcome = answer({"error": error, "usage": {"input_tokens": 1, "output_tokens": 1}}, 400)
    assert (outcome.error_code, outcome.moderation_stage, outcome.usage, outcome.failure) == (
        "moderation_blocked",
        "output",
        None,
        Failure.ERROR,
    )


def test_an_own_routes_answer_is_read_at_its_paths() -> None:
    document = {"result": {"usage": {"input_tokens": 1, "output_tokens": 2}, "images": [{"b64": "eA=="}, {"b64": "!"}]}}
    outcome = answer(document, route=OWN)
    assert (outcome.usage, len(outcome.image_digests)) == (Usage(input_image_tokens=1, output_image_tokens=2), 1)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(ANSWER_KEYS), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=60) | ANYTHING.map(lambda v: json.dumps(v).encode()), st.sampled_from([200, 400, 500]))
def test_any_answer_is_an_outcome(body: bytes, status: int) -> None:
    assert read_outcome(status, {}, body).status == status


def test_no_sentence_of_an_answer_gets_into_the_record() -> None:
    words = "a portrait of Ada"
    outcome = answer({"size": words, "quality": words, "error": {"code": words}}, 400, **{"x-request-id": words})
    assert (outcome.size, outcome.quality, outcome.error_code, outcome.request_id) == (None, None, None, None)


# ---- refusals ---------------------------------------------------------------------------------------------


def decision(*kinds: Kind, effect: Effect = Effect.DENY) -> Decision:
    reasons = tuple(
        Reason(id=f"{k}.x", kind=k, effect=effect, message="m", place=Place("a.yaml", 3), values={"score": 0.5})
        for k in kinds
    )
    return Decision(id="dec_1", surface="avatars", policy_digest="d", effect=effect, reasons=reasons)


@pytest.mark.parametrize("kind", list(Kind))
def test_every_refusal_has_the_one_body(kind: Kind) -> None:
    rendered = render(refuse(decision(kind), policy=None, now=NOW))
    error = json.loads(rendered.body)["error"]
    expected = {"message", "type", "param", "code", "policy"} | (
        {"moderation_details"} if kind is Kind.MODERATION else set()
    )
    assert error.keys() == expected
    assert error["policy"]["reasons"] == [
        {"id": f"{kind}.x", "effect": "deny", "message": "m", "values": {"score_milli": 500}}
    ]
    headers = dict(rendered.headers)
    assert headers["x-policyguard-decision"] == "dec_1"
    assert ("x-should-retry" in headers) is (kind is not Kind.UNAVAILABLE)
    assert ("retry-after" in headers) is (kind is Kind.UNAVAILABLE)


def test_reasons_can_be_kept_from_clients() -> None:
    error = json.loads(render(refuse(decision(Kind.RULE), policy=None, now=NOW), reasons=False).body)["error"]
    assert error["policy"]["reasons"] == []


def test_a_held_request_says_where_its_review_is() -> None:
    held = Held(decision=decision(Kind.REVIEW, effect=Effect.REVIEW), review_id="rev_1", expires_at=NOW)
    rendered = render(held)
    assert (rendered.status, dict(rendered.headers)["location"]) == (403, "/policyguard/reviews/rev_1")
    assert json.loads(rendered.body)["error"]["policy"]["review_id"] == "rev_1"


def test_moderation_details_have_openais_coarse_labels() -> None:
    reason = Reason(id="moderation.self-harm/intent", kind=Kind.MODERATION, effect=Effect.DENY, message="m")
    said = Decision(id="d", surface="s", policy_digest="d", effect=Effect.DENY, reasons=(reason,))
    refused = refuse(said, policy=None, now=NOW)
    details = json.loads(render(refused).body)["error"]["moderation_details"]
    assert details == {"moderation_stage": "input", "categories": ["self-harm"]}
