"""Forms go on as they were read, in one way of writing: whatever a client's own way was, there is one reading."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire.form_ways import HOLDING, HOSTILE, TYPES

from policyguard.errors import InvalidRequest
from policyguard.wire.form import FormPart, parse_form, write_form

TYPE = "multipart/form-data; boundary=b0"


def form(*parts: bytes) -> bytes:
    return b"".join(b"--b0\r\n" + part + b"\r\n" for part in parts) + b"--b0--\r\n"


def written(body: bytes, forced: dict[str, str | None]) -> bytes:
    again, content_type = write_form(*_read(body, forced))
    assert content_type == TYPE
    return again


def _read(body: bytes, forced: dict[str, str | None]) -> tuple[list[FormPart], dict[str, str | None], bytes]:
    parts, boundary = parse_form(body, TYPE)
    return parts, forced, boundary


PROMPT = b'Content-Disposition: form-data; name="prompt"\r\n\r\na cat'
FILE = (
    b'Content-Disposition: form-data; name="image"; filename="a.png"\r\n'
    b"Content-Type: image/png\r\n\r\n\x89PNG\r\n--b\r\n"
)
SIZE = b'Content-Disposition: form-data; name="size"\r\n\r\nauto'


def test_parts_that_are_not_forced_stay_and_the_others_are_put_where_they_stood() -> None:
    small = b'Content-Disposition: form-data; name="size"\r\n\r\n1024x1024'
    model = b'Content-Disposition: form-data; name="model"\r\n\r\nm'
    assert written(form(PROMPT, SIZE, FILE), {"size": "1024x1024", "model": "m"}) == form(PROMPT, small, FILE, model)


@pytest.mark.parametrize(
    "part",
    [
        b'content-disposition:form-data; name="prompt"\r\nX-Own: 7 \r\n\r\na cat',
        b"Content-Disposition: Form-Data ;name=prompt;\r\n\r\na cat",
        b'Content-Type: text/plain; charset=ISO-8859-1\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na cat',
        b'Content-Disposition: form-data; name="prompt"\r\nContent-Transfer-Encoding: 8bit\r\n\r\na cat',
        b'Content-Disposition: form-data; name="prompt"\r\nContent-Type: \r\nContent-Length: 5\r\n\r\na cat',
    ],
)
def test_a_part_goes_on_with_headers_of_ours(part: bytes) -> None:
    assert written(form(part), {}) == form(PROMPT)


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n\r\n"])
def test_empty_lines_around_a_form_do_not_go_on(end: bytes) -> None:
    assert written(b"\r\n" + form(PROMPT)[:-2] + end, {}) == form(PROMPT)


def test_a_value_that_holds_the_boundary_gets_a_form_with_another() -> None:
    """A model of the policy can be named like anything, and a file name can be written in another way."""
    named = b"Content-Disposition: form-data; name=image; filename*=utf-8''%2D%2Db0\r\n\r\nx"
    parts, boundary = parse_form(form(PROMPT, named), TYPE)
    body, content_type = write_form(parts, {"model": "a--b00"}, boundary)
    again, boundary = parse_form(body, content_type)
    assert boundary == b"b000"
    assert [(part.name, part.filename, part.data) for part in again] == [
        ("prompt", None, b"a cat"),
        ("image", "--b0", b"x"),
        ("model", None, b"a--b00"),
    ]


@pytest.mark.parametrize(
    ("said", "boundary"),
    [
        ('multipart/form-data; boundary="b0"', b"b0"),
        ("Multipart/Form-Data;BOUNDARY=b0 ", b"b0"),
        ('multipart/form-data; boundary="=_(a),b/c:d?"', b"=_(a),b/c:d?"),
        ("multipart/form-data; boundary=" + "a" * 128, b"a" * 128),
    ],
)
def test_a_content_type_is_written_again(said: str, boundary: bytes) -> None:
    body = form(PROMPT).replace(b"b0", boundary)
    parts, found = parse_form(body, said)
    again, content_type = write_form(parts, {}, found)
    assert (again, found) == (body, boundary)
    quoted = '"=_(a),b/c:d?"' if b"?" in boundary else boundary.decode()
    assert content_type == f"multipart/form-data; boundary={quoted}"


@pytest.mark.parametrize("said", TYPES[HOSTILE])
def test_a_content_type_says_the_boundary_and_nothing_else(said: str) -> None:
    unread = said == "multipart/form-data; boundary='{b}'"  # plain, and another boundary than that of the form
    with pytest.raises(InvalidRequest, match="cannot be read" if unread else "the content type of a form must be"):
        parse_form(form(PROMPT), said.replace("{b}", "b0"))


NAMED = b'Content-Disposition: form-data; name="prompt"'


@pytest.mark.parametrize(
    "headers",
    [
        NAMED + b"\r\n" + NAMED,
        NAMED + b"\r\n" + NAMED.replace(b"prompt", b"other"),
        NAMED.replace(b"prompt", b"other") + b"\r\n" + NAMED,
        NAMED + b"\r\n" + NAMED.replace(b"Content-Disposition", b"content-disposition"),
        NAMED + b"\r\nContent-Type: text/plain\r\n" + NAMED + b'; filename="a.png"',
        NAMED + b"\r\nContent-Type: text/plain\r\nContent-Type: text/plain",
        NAMED + b"\r\nContent-Transfer-Encoding: 8bit\r\nContent-Transfer-Encoding: binary",
    ],
)
def test_a_part_with_a_header_twice_is_refused(headers: bytes) -> None:
    with pytest.raises(InvalidRequest, match="a form part has a header twice"):
        parse_form(form(headers + b"\r\n\r\na cat"), TYPE)


@pytest.mark.parametrize("held", HOLDING)
def test_a_part_that_holds_the_boundary_is_refused(held: bytes) -> None:
    body = form(PROMPT, FILE.replace(b"--b\r\n", held.replace(b"%s", b"b0")))
    # Where it is a boundary of its own kind, what follows it is no part, or nothing that ends the form.
    told = "holds its boundary where no part|cannot be read|has no `Content-Disposition: form-data`"
    with pytest.raises(InvalidRequest, match=told):
        parse_form(body, TYPE)


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
        (b"form-data; name=\"image\"; filename*=UTF-8''%e2%82%ac.png", "image", "\u20ac.png"),
        (b'form-data; name="image"; filename*="UTF-8\'\'a%20b.png"', "image", "a b.png"),
        (b'form-data; filename="a.png"; name="image"', "image", "a.png"),
        (b'form-data; name="image"; filename="a\\"b.png"', "image", "a_b.png"),
        (b'form-data; name="image"; filename="C:\\photos\\a.png"', "image", "C:_photos_a.png"),
        (b'form-data; name="image"; filename="a%22b.png"', "image", "a_b.png"),
        (b'form-data; name="image"; filename=a(1).png', "image", "a(1).png"),
        (b'form-data; name="image"; filename="&sol;"', "image", "_sol;"),
        (b'form-data; name="image"; filename=".."', "image", ""),
        (b'form-data; name="image"; filename=""', "image", ""),
    ],
)
def test_names_in_every_plain_spelling_are_read(head: bytes, name: str, filename: str | None) -> None:
    (part,), _ = parse_form(form(b"Content-Disposition: " + head + b"\r\n\r\nx"), TYPE)
    assert (part.name, part.filename) == (name, filename)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            form(b"Content-Disposition: form-data; name*=utf-8''prompt\r\n\r\nx"),
            'a form part has no plain name: write it as `name="prompt"`',
        ),
        (
            form(b'Content-Disposition: form-data; name="size"; name="prompt"\r\n\r\nx'),
            'a form part has no plain name: write it as `name="prompt"`',
        ),
        (
            form(b'Content-Disposition: form-data; name=prompt name="size"\r\n\r\nx'),
            'a form part has no plain name: write it as `name="prompt"`',
        ),
        (
            form(b'Content-Disposition: form-data; name="pro\\"mpt"\r\n\r\nx'),
            'a form part has no plain name: write it as `name="prompt"`',
        ),
        (
            form(b"Content-Disposition: form-data; name=svg[model]\r\n\r\nx"),
            'a form part has no plain name: write it as `name="prompt"`',
        ),
        (form(PROMPT.replace(b"\r\n\r\n", b"\r\nX\x00Own: 7\r\n\r\n")), "the form cannot be read"),
        (form(PROMPT.replace(b"\r\n\r\n", b"\r\nX-Own: 7\x00\r\n\r\n")), "a form part has a header that is not plain"),
        (form(PROMPT.replace(b'"\r\n', b'"\x0b\r\n')), "a form part has a header that is not plain"),
        (form(PROMPT.replace(b"prompt", b"prompt\x0b")), "a form part has a header that is not plain"),
        (form(PROMPT.replace(b"prompt", b"prompt[")), 'a form part has no plain name: write it as `name="prompt"`'),
        (
            form(PROMPT.replace(b"prompt", b"safety[identifier")),
            'a form part has no plain name: write it as `name="prompt"`',
        ),
        (
            form(b"Content-Disposition: form-data; filename*=utf-8''a.png\r\n\r\nx"),
            'a form part has no plain name: write it as `name="prompt"`',
        ),
        (form(PROMPT).replace(b"--b0\r\n", b"--b0 \r\n", 1), "the form cannot be read"),
        (form(PROMPT) + form(SIZE), "the form holds its boundary where no part begins or ends"),
        (form(PROMPT) + b"more", "the form cannot be read"),
        (b"preamble\r\n" + form(PROMPT), "the form cannot be read"),
        (form(PROMPT)[:-4], "the form is cut off"),
    ],
)
def test_what_two_readers_could_take_for_two_forms_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        parse_form(body, TYPE)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (b'Content-Disposition: form-data; name="image"; filename="a.png\r\n\r\nx', "a file name"),
        (b'Content-Disposition: form-data; filename="a"b"; name="image"\r\n\r\nx', "a file name"),
        (b"Content-Disposition: form-data; name=image; filename=a b.png\r\n\r\nx", "a file name"),
        (b"Content-Disposition: form-data; name=image; filename*=utf-16''a\r\n\r\nx", "a file name"),
        (b"Content-Disposition: form-data; name=image\r\nContent-Type: image/png\r\n\r\nx", "needs `filename=`"),
        (b'Content-Disposition: form-data; name="a b"\r\n\r\nx', "no plain name"),
        (b"Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64\r\n\r\neA==", "8bit"),
    ],
)
def test_what_cannot_be_read_is_named(part: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse_form(form(part), TYPE)


@pytest.mark.parametrize("charset", ["iso-8859-1", "us-ascii", '"ISO-8859-1"'])
def test_a_field_that_says_it_is_no_utf_8_is_ascii(charset: str) -> None:
    head = f"Content-Disposition: form-data; name=prompt\r\nContent-Type: text/plain; charset={charset}\r\n\r\n"
    (part,), _ = parse_form(form(head.encode() + b"a cat"), TYPE)
    assert part.text == "a cat"
    (part,), _ = parse_form(form(head.encode() + "é".encode()), TYPE)
    with pytest.raises(InvalidRequest, match="a form field is no UTF-8 text"):
        part.text  # noqa: B018


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
