"""Forms go on as they came: only the fields that are forced change, and two readers that differ are no form."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyguard.errors import InvalidRequest
from policyguard.wire.form import parse_form, write_form

TYPE = "multipart/form-data; boundary=b0"


def form(*parts: bytes) -> bytes:
    return b"".join(b"--b0\r\n" + part + b"\r\n" for part in parts) + b"--b0--\r\n"


def written(body: bytes, forced: dict[str, str | None]) -> bytes:
    parts, boundary = parse_form(body, TYPE)
    return write_form(body, parts, forced, boundary)


PROMPT = b'content-disposition:form-data; name="prompt"\r\nX-Own: 7 \r\n\r\na cat'
FILE = (
    b"Content-Disposition: form-data; name=image; filename=a.png; filename*=utf-8''a.png\r\n"
    b"Content-Type: image/png\r\n\r\n\x89PNG\r\n--b\r\n"
)
SIZE = b'Content-Disposition: form-data; name="size"\r\n\r\nauto'


def test_parts_that_are_not_forced_keep_every_byte() -> None:
    small = b'Content-Disposition: form-data; name="size"\r\n\r\n1024x1024'
    model = b'Content-Disposition: form-data; name="model"\r\n\r\nm'
    assert written(form(PROMPT, SIZE, FILE), {"size": "1024x1024", "model": "m"}) == form(PROMPT, small, FILE, model)


def test_what_is_as_it_was_decided_is_not_copied() -> None:
    body = form(PROMPT, SIZE, FILE)
    assert written(body, {"size": "auto", "moderation": None}) is body


def test_a_field_is_taken_out_wherever_it_stands() -> None:
    low = b'Content-Disposition: form-data; name="moderation"\r\n\r\nlow'
    assert written(form(low, PROMPT, low), {"moderation": None}) == form(PROMPT)


def test_a_forced_field_that_is_there_twice_is_there_once() -> None:
    assert written(form(SIZE, SIZE), {"size": "auto"}) == form(SIZE)


@pytest.mark.parametrize(
    ("head", "name", "filename"),
    [
        (b'form-data; name="prompt"', "prompt", None),
        (b"form-data; name=prompt", "prompt", None),
        (b'form-data; name="svg[model]"', "svg[model]", None),
        (b'form-data; name="image[]"; filename="a b.png"', "image[]", "a b.png"),
        (b"form-data; name=image; filename=a.png; filename*=utf-8''a.png", "image", "a.png"),
        (b"form-data; name=\"image\"; filename*=UTF-8''%e2%82%ac.png", "image", ""),
    ],
)
def test_names_in_every_plain_spelling_are_read(head: bytes, name: str, filename: str | None) -> None:
    (part,), _ = parse_form(form(b"Content-Disposition: " + head + b"\r\n\r\nx"), TYPE)
    assert (part.name, part.filename) == (name, filename)


@pytest.mark.parametrize(
    "body",
    [
        form(b"Content-Disposition: form-data; name*=utf-8''prompt\r\n\r\nx"),
        form(b'Content-Disposition: form-data; name="size"; name="prompt"\r\n\r\nx'),
        form(b'Content-Disposition: form-data; name=prompt name="size"\r\n\r\nx'),
        form(b'Content-Disposition: form-data; name="pro\\"mpt"\r\n\r\nx'),
        form(b"Content-Disposition: form-data; name=svg[model]\r\n\r\nx"),
        form(PROMPT.replace(b"X-Own", b"X\x00Own")),
        form(PROMPT.replace(b"X-Own: 7 ", b"X-Own: 7\x00")),
        form(PROMPT).replace(b"--b0\r\n", b"--b0 \r\n", 1),
        form(PROMPT) + form(SIZE),
        form(PROMPT) + b"more",
        b"preamble\r\n" + form(PROMPT),
        form(PROMPT)[:-4],
    ],
)
def test_what_two_readers_could_take_for_two_forms_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_form(body, TYPE)


_PIECES = st.lists(st.sampled_from([b"\r\n", b"--b0", b"--", b"b0", b"\r", b"\n", b"-", b"x", b"\x00", b"\r\n--b"]))


@given(st.lists(st.tuples(st.sampled_from(["prompt", "size", "user"]), _PIECES), min_size=1, max_size=4), st.text())
def test_any_form_that_is_read_goes_on_with_all_other_parts_as_they_were(
    fields: list[tuple[str, list[bytes]]], value: str
) -> None:
    raw = [b'Content-Disposition: form-data; name="%s"\r\n\r\n%s' % (n.encode(), b"".join(d)) for n, d in fields]
    body = form(*raw)
    try:
        parts, _ = parse_form(body, TYPE)
    except InvalidRequest:
        return
    value = re.sub("[\r\n]|--b0", "", value)
    if any("\ud800" <= character <= "\udfff" for character in value):
        return
    changed, _ = parse_form(written(body, {"size": value}), TYPE)
    others = [(part.name, part.data) for part in parts if part.name != "size"]
    assert [(part.name, part.data) for part in changed if part.name != "size"] == others
    assert [part.text for part in changed if part.name == "size"] == [value]
