"""The forms of other languages' clients are read, and mean the same for all of them."""

from __future__ import annotations

import pytest
from support import request
from wire.client_forms import CLIENTS, prompt_of
from wire.form_grammar import png

from policyguard.wire.edits import read_edit


@pytest.mark.parametrize("client", CLIENTS)
def test_a_form_of_every_client_is_an_edit(client: str) -> None:
    edit = read_edit(*CLIENTS[client](png()))
    assert edit.request.prompt == prompt_of(client)
    assert [image.data for image in edit.request.images] == [png()]
    assert (edit.request.mask, edit.request.size, dict(edit.request.extra)) == (None, None, {})


@pytest.mark.parametrize("client", CLIENTS)
def test_what_goes_on_is_read_again_as_the_same_and_written_as_the_same(client: str) -> None:
    first = read_edit(*CLIENTS[client](png()))
    written = first.write(request(), "sid")
    again = read_edit(*written)
    assert again.request.prompt == first.request.prompt
    assert [image.filename for image in again.request.images] == [image.filename for image in first.request.images]
    assert again.write(request(), "sid") == written


@pytest.mark.parametrize("name", ["size", "quality", "n", "stream", "user", "response_format", "output_compression"])
def test_an_empty_parameter_is_none(name: str) -> None:
    body, kind = CLIENTS["browser"](png())
    empty = f'\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n\r\n'.encode()
    boundary = body.partition(b"\r\n")[0]
    edit = read_edit(boundary + empty + body, kind)
    assert (dict(edit.request.extra), getattr(edit.request, name, None)) == ({}, None)
    assert f'name="{name}"\r\n\r\n\r\n'.encode() not in edit.write(request(), "sid")[0]
