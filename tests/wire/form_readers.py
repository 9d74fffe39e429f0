"""The forms as the frameworks' own parsers see them: every field and file, in order, by name, file name and bytes."""

from __future__ import annotations

import io
import random
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import UserSettingsHolder, global_settings
from django.conf import settings as django_settings
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.http.multipartparser import MultiPartParser as DjangoParser
from quart.formparser import FormDataParser as QuartParser
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartParser as StarletteParser
from werkzeug.formparser import FormDataParser as WerkzeugParser
from werkzeug.http import parse_options_header

Seen = tuple[str, str | None, bytes]  # a field has no file name


@contextmanager
def django() -> Iterator[None]:
    """Django's own settings, for a while."""
    before = vars(django_settings)["_wrapped"]
    django_settings._wrapped = UserSettingsHolder(global_settings)
    yield
    django_settings._wrapped = before


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """What waits for nothing needs no loop."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


async def chunks(body: bytes, rng: random.Random | None) -> AsyncIterator[bytes]:
    """As a server may hand them on; without `rng` in one piece."""
    size = rng.choice((7, 64, 1_000, len(body))) if rng else len(body)
    for at in range(0, len(body), size):
        yield body[at : at + size]


def field(name: str, value: str) -> Seen:
    return name, None, value.encode()


def starlette(body: bytes, content_type: str, rng: random.Random) -> list[Seen]:
    parser = StarletteParser(Headers({"content-type": content_type}), chunks(body, rng))
    form = run(parser.parse())
    seen = [
        (name, value.filename, value.file.read()) if isinstance(value, UploadFile) else field(name, value)
        for name, value in form.multi_items()
    ]
    run(form.close())
    return seen


def memory(*_: Any, **__: Any) -> io.BytesIO:
    return io.BytesIO()


def werkzeug(body: bytes, content_type: str, rng: random.Random) -> list[Seen]:
    kind, options = parse_options_header(content_type)
    parser = WerkzeugParser(cls=list, silent=False, stream_factory=memory)
    fields, files = parser.parse(io.BytesIO(body), kind.lower(), len(body), options)[1:]
    return _split(fields, files)


def quart(body: bytes, content_type: str, rng: random.Random) -> list[Seen]:
    """In one piece, as the middleware hands it on: in several, Werkzeug 3.1.9 leaves a `\\r` behind some values."""
    kind, options = parse_options_header(content_type)
    parser = QuartParser(cls=list, silent=False, stream_factory=memory)
    fields, files = run(parser.parse(chunks(body, None), kind.lower(), len(body), options))
    return _split(fields, files)


def _split(fields: Any, files: Any) -> list[Seen]:
    return [field(*one) for one in fields] + [(name, file.filename, file.read()) for name, file in files]


def django_(body: bytes, content_type: str, rng: random.Random) -> list[Seen]:
    meta = {"CONTENT_TYPE": content_type, "CONTENT_LENGTH": str(len(body))}
    fields, files = DjangoParser(meta, io.BytesIO(body), [MemoryFileUploadHandler()], "utf-8").parse()
    return [field(name, value) for name, values in fields.lists() for value in values] + [
        (name, file.name, file.read()) for name, values in files.lists() for file in values
    ]


READERS = {"starlette": starlette, "werkzeug": werkzeug, "quart": quart, "django": django_}


def as_seen_by(reader: str, parts: list[Seen]) -> list[Seen]:
    """The parts in the order in which a reader can tell them: most keep fields and files apart, Django each name."""
    if reader == "starlette":
        return parts
    fields = [part for part in parts if part[1] is None]
    files = [part for part in parts if part[1] is not None]
    if reader != "django":
        return fields + files
    return _grouped(fields) + _grouped(files)


def _grouped(parts: list[Seen]) -> list[Seen]:
    names = list(dict.fromkeys(part[0] for part in parts))
    return [part for name in names for part in parts if part[0] == name]
