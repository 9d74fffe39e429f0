"""An image behind a web address, which OpenAI fetches: twice, once to moderate it and once to use it.

Nothing of it is seen here, and a host can give something else each time, or send OpenAI elsewhere. So it passes only
where the policy names its host (`input_images.hosts`), as one whose pictures stay what they are. The address is read in
its plainest form, which no two readers take differently, or not at all.
"""

from __future__ import annotations

import re

from policyguard.errors import InvalidRequest
from policyguard.policy.units import HOST
from policyguard.request import InputImage
from policyguard.wire.data_urls import DataUrl
from policyguard.wire.image_header import input_image

MAX_CHARS = 2_048
# No user, port, fragment, backslash or letter beyond ASCII; a host without an address in numbers and a dot at its end.
_PLAIN = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})"
_ADDRESS = re.compile(rf"https://(?i:{HOST})/{_PLAIN}*(?:\?(?:{_PLAIN}|\?)*)?", re.ASCII)


def image_of(url: DataUrl | str, param: str) -> InputImage:
    """The image of an `image_url`, here or elsewhere. Raises `InvalidRequest`."""
    return input_image(url.data, param=param) if isinstance(url, DataUrl) else remote_image(url, param)


def remote_image(url: str, param: str) -> InputImage:
    """The image behind an https address: without bytes, type and size. Raises `InvalidRequest`."""
    if len(url) > MAX_CHARS or _ADDRESS.fullmatch(url) is None:
        hint = "or a plain https address of a host that the policy names"
        raise InvalidRequest(f"`image_url` must be a data URL of a png, jpeg or webp in base64, {hint}", param=param)
    return InputImage(b"", "", url=url)
