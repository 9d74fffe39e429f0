"""Images behind a web address: which addresses are read in one way only, and that what is read is all of it."""

from __future__ import annotations

import json

import pytest
from support import request

from policyguard.errors import InvalidRequest
from policyguard.flow.rows import request_digest
from policyguard.moderation.answers import Scorable
from policyguard.wire.edits_json import read_json_edit
from policyguard.wire.remote import remote_image

PLAIN = {
    "https://images.example.com/a.png": "images.example.com",
    "https://images.example.com/": "images.example.com",
    "https://IMAGES.Example.com/a/b/c.png?width=3&x=a%20b": "images.example.com",
    "https://xn--bcher-kva.example/bild.jpg": "xn--bcher-kva.example",
    "https://a.xn--p1ai/a": "a.xn--p1ai",
    "https://1.2.3.example.com/@a:b": "1.2.3.example.com",
}
REFUSED = {
    "http": "http://images.example.com/a.png",
    "no scheme": "//images.example.com/a.png",
    "a scheme in capitals": "HTTPS://images.example.com/a.png",
    "a file": "file:///etc/passwd",
    "ftp": "ftp://images.example.com/a.png",
    "no path": "https://images.example.com",
    "a port": "https://images.example.com:443/a.png",
    "another port": "https://images.example.com:22/a.png",
    "an empty port": "https://images.example.com:/a.png",
    "a user": "https://images.example.com@evil.example/a.png",
    "a user and a password": "https://u:p@images.example.com/a.png",
    "a backslash for a slash": "https://evil.example\\@images.example.com/a.png",
    "three slashes": "https:///images.example.com/a.png",
    "one slash": "https:/images.example.com/a.png",
    "a fragment": "https://images.example.com/#@evil.example/",
    "a fragment at once": "https://evil.example#.images.example.com/a.png",
    "a query at once": "https://evil.example?.images.example.com/a.png",
    "an address in numbers": "https://127.0.0.1/a.png",
    "one that is a number": "https://2130706433/a.png",
    "a hexadecimal one": "https://0x7f.0x0.0x0.0x1/a.png",
    "a short one": "https://127.1/a.png",
    "a long one": "https://[::1]/a.png",
    "this machine": "https://localhost/a.png",
    "a dot at the end": "https://images.example.com./a.png",
    "a dot at the start": "https://.images.example.com/a.png",
    "two dots": "https://images..example.com/a.png",
    "a hyphen at the end of a name": "https://images-.example.com/a.png",
    "an underscore": "https://my_images.example.com/a.png",
    "an encoded host": "https://images%2eexample.com/a.png",
    "letters beyond ascii": "https://b\u00fccher.example/a.png",
    "full-width letters": "https://\uff49mages.example.com/a.png",
    "a full stop of another script": "https://images\u3002example\u3002com/a.png",
    "a long s": "https://image\u017f.example.com/a.png",
    "a kelvin sign": "https://images.example.\u212aom/a.png",
    "a path beyond ascii": "https://images.example.com/b\u00fccher.png",
    "a space": "https://images.example.com/a b.png",
    "a space before": " https://images.example.com/a.png",
    "a line break": "https://images.example.com/a.png\n",
    "a tab within": "https://images.exa\tmple.com/a.png",
    "a null": "https://images.example.com/a\0.png",
    "half a percent sign": "https://images.example.com/a%2",
    "nothing": "",
    "too long": "https://images.example.com/" + "a" * 2048,
    "a name that is too long": f"https://{'a' * 64}.example.com/a.png",
    "an escaped data url": "data:image/png,abc",
}


@pytest.mark.parametrize("url", PLAIN)
def test_a_plain_https_address_is_an_image_without_bytes(url: str) -> None:
    image = remote_image(url, "images")
    assert (image.url, image.host, image.data, image.size) == (url, PLAIN[url], b"", None)


@pytest.mark.parametrize("name", REFUSED)
def test_an_address_that_two_readers_could_take_differently_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        remote_image(REFUSED[name], "images")
    assert (caught.value.status, caught.value.param) == (400, "images")


def test_what_a_refused_address_says_is_not_repeated() -> None:
    with pytest.raises(InvalidRequest) as caught:
        remote_image("http://a-secret.example/a.png", "images")
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(remote_image("https://a-secret.example/a.png", "images"))


def edit(url: str) -> bytes:
    return json.dumps({"prompt": "a hat", "images": [{"image_url": url}]}).encode()


def test_an_address_goes_upstream_and_to_moderation_as_it_came() -> None:
    url = "https://images.example.com/a.png?v=1"
    parsed = read_json_edit(edit(url).replace(b"/", b"\\/"), "application/json")
    (image,) = parsed.request.images
    assert Scorable(image=image).wire() == [{"type": "image_url", "image_url": {"url": url}}]
    assert json.loads(parsed.write(request(), "sid")[0])["images"] == [{"image_url": url}]


def test_an_approval_is_bound_to_the_address() -> None:
    urls = ["https://images.example.com/a.png", "https://images.example.com/b.png"]
    assert len({request_digest(read_json_edit(edit(url), "application/json").request) for url in urls}) == 2
