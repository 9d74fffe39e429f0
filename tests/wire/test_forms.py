"""What an address may say beside its path."""

from __future__ import annotations

import pytest

from policyguard.errors import InvalidRequest
from policyguard.wire.forms import check_query


@pytest.mark.parametrize(
    ("query", "name"),
    [
        (b"moderation=low", "moderation"),
        (b"api-version=1&n=9", "n"),
        (b"a=b;n=9", "n"),
        (b"%6Doderation=low", "moderation"),
        (b"MODERATION", "moderation"),
        (b"+n+=9", "n"),
        (b"prompt[]=x", "prompt"),
        (b"tools=x", "tools"),
        (b"images%5B0%5D=x", "images"),
    ],
)
def test_a_parameter_of_the_body_is_refused_in_the_address(query: bytes, name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_query(query)
    assert caught.value.param == name


@pytest.mark.parametrize("query", [b"", b"api-version=2026-01-01", b"tag=n&x=prompt", b"%ff%00=1", b"&&;="])
def test_what_else_an_address_says_is_let_through(query: bytes) -> None:
    check_query(query)
