"""What the OpenAPI document must say; that it says the truth is tested by requests, in the acceptance tests."""

from __future__ import annotations

from policyguard.decision import REFUSALS
from policyguard.proxy.openapi import document
from policyguard.proxy.proxy import ROUTES
from policyguard.wire.parameters import KNOWN

DOCUMENT = document()


def test_every_route_that_is_passed_on_is_there_with_every_refusal() -> None:
    for path in ROUTES:
        answers = DOCUMENT["paths"][path]["post"]["responses"]
        assert {str(status) for status, _, _ in REFUSALS.values()} <= answers.keys()
        for refusal in REFUSALS.values():
            assert f"`{refusal.code}`" in answers[str(refusal.status)]["description"]


def test_every_parameter_that_the_doors_know_is_there() -> None:
    body = DOCUMENT["paths"]["/v1/images/generations"]["post"]["requestBody"]
    assert tuple(body["content"]["application/json"]["schema"]["properties"]) == KNOWN


def test_an_edit_is_a_form_or_json() -> None:
    body = DOCUMENT["paths"]["/v1/images/edits"]["post"]["requestBody"]
    required = {kind: content["schema"]["required"] for kind, content in body["content"].items()}
    assert required == {"multipart/form-data": ["prompt", "image"], "application/json": ["prompt", "images"]}
