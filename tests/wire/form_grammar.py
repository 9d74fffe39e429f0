"""Forms by a grammar: how clients write them, and how somebody would who wants two readers to read two things.

Every choice has honest ways, which have to be accepted, hostile ones, which have to be refused, and odd ones: of those
it is only asked that all readers see the same. A form that is only honest is accepted; one with anything hostile never.
"""

from __future__ import annotations

import io
import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from PIL import Image
from wire.form_ways import (
    BOUNDARIES,
    DISPOSITIONS,
    EMPTY,
    FIELD_TYPES,
    FILE_TYPES,
    FILENAMES,
    FREE,
    HOLDING,
    HONEST,
    HOSTILE,
    MORE,
    NAMES,
    NESTED,
    ODD,
    QUOTED,
    SET,
    TEXTS,
    TYPES,
)


@cache
def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", (8, 8), "teal").save(buffer, "PNG")
    return buffer.getvalue()


def png_with(text: bytes) -> bytes:
    """A whole picture with a text chunk, checksum and all."""
    chunk = b"tEXtComment\0" + text
    raw = len(chunk) - 4
    end = png().rindex(b"\0\0\0\0IEND")
    return png()[:end] + raw.to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + png()[end:]


@dataclass
class Form:
    """`tags` are the choices that were not the plainest ones."""

    body: bytes
    content_type: str
    tags: set[tuple[str, str]] = field(default_factory=set)

    def of(self, kind: str) -> list[str]:
        return [choice for found, choice in self.tags if found == kind]


class Writer:
    """One form. `spice` is how likely a choice is not the plainest, `oddity` and `hostility` how likely it is that."""

    def __init__(self, rng: random.Random, spice: float, oddity: float, hostility: float) -> None:
        self.rng, self.spice, self.oddity, self.hostility = rng, spice, oddity, hostility
        self.tags: set[tuple[str, str]] = set()
        self.boundary = rng.choice(BOUNDARIES)
        self.quoted = rng.random() < spice / 4
        if self.quoted:
            self.boundary = rng.choice(QUOTED)

    @property
    def line(self) -> bytes:
        return self.boundary.encode()

    def choose(self, what: str, ways: Mapping[str, Sequence[Any]]) -> Any:
        """The first honest way, mostly."""
        kind = HONEST
        if self.rng.random() < self.hostility and HOSTILE in ways:
            kind = HOSTILE
        elif self.rng.random() >= self.spice:
            return ways[HONEST][0]
        chosen = self.rng.choice(ways[kind])
        self.tags.add((kind, f"{what}: {chosen!r}"))
        return chosen

    def odd(self, what: str) -> bool:
        return self._sometimes(ODD, what, self.oddity)

    def hostile(self, what: str) -> bool:
        return self._sometimes(HOSTILE, what, self.hostility)

    def _sometimes(self, kind: str, what: str, likely: float) -> bool:
        if self.rng.random() >= likely:
            return False
        self.tags.add((kind, what))
        return True

    # ---- parts --------------------------------------------------------------------------------------------

    def part(self, name: str, data: bytes, *, file: bool) -> bytes:
        said: list[bytes] = [self._name(name)]
        if file:
            said.append(self.choose("filename", FILENAMES))
            if self.rng.random() < self.spice:
                said.reverse()  # a file name first
        shape = self.choose("disposition", DISPOSITIONS)
        headers = [shape.replace(b"%s", b"; ".join(said))]
        type_ = self.choose("file type", FILE_TYPES) if file else self._field_type(data)
        if type_ is not None:
            headers.append(b"Content-Type: " + type_)
        if self.rng.random() < self.spice + self.hostility:
            headers.append(self.choose("header", MORE))
        if self.rng.random() < self.spice:
            self.rng.shuffle(headers)
        head = b"\r\n".join(headers)
        end = b"\r\n\r\n"
        if self._sometimes(ODD, "no blank line", self.hostility):
            end = self.rng.choice((b"\r\n", b"\n\n", b"\r\r", b"\n\r\n\r"))
        return head + end + data

    def _name(self, name: str) -> bytes:
        raw = name.encode()
        shape = self.choose("name", NAMES)
        if b"[" in raw and shape == b"name=%s":  # which needs quotes
            shape = NAMES[HONEST][0]
        return shape.replace(b"%s", raw).replace(b"%%", b"%")

    def _field_type(self, data: bytes) -> bytes | None:
        type_ = self.choose("field type", FIELD_TYPES)
        if type_ and b"utf" not in type_.lower() and b"charset" in type_.lower() and not data.isascii():
            self.tags.add((HOSTILE, "no ASCII, as it says"))
        return type_

    def text(self) -> bytes:
        if self.hostile("the boundary in a field"):
            return self._holding()
        return self.choose("text", TEXTS)

    def _holding(self) -> bytes:
        return self.rng.choice((*HOLDING, NESTED)).replace(b"%s", self.line)

    def picture(self) -> bytes:
        if self.hostile("the boundary in a picture"):
            return png_with(b"a" + self._holding())
        if self.rng.random() < self.spice:
            return png_with(NESTED.replace(b"%s", b"another-one"))
        return png()

    def parts(self) -> list[bytes]:
        prompt = self.text()
        parts = [
            self.part("prompt", prompt if prompt.strip() else b"a" + prompt, file=False),
            self.part("image", self.picture(), file=True),
        ]
        names = self.rng.sample([*FREE, *SET], self.rng.randrange(4))
        parts += [self.part(name, SET.get(name) or self.text(), file=False) for name in names]
        if self.rng.random() < self.spice:
            name = self.rng.choice([name for name in EMPTY if name not in names])
            parts.append(self.part(name, b"", file=False))
        if self.rng.random() < self.spice:
            parts.append(self.part("image[]", self.picture(), file=True))
        if self.rng.random() < self.spice:
            parts.append(self.part("mask", png(), file=True))
        if self.rng.random() < self.spice / 2:  # a file that nobody chose
            parts.append(b'Content-Disposition: form-data; name="markup"; filename=""\r\n\r\n')
        if self.hostile("a field twice"):
            parts += [self.part("prompt", b"another", file=False)]
        if self.hostile("a name of a form"):
            parts += [b'Content-Disposition: form-data; name="_charset_"\r\n\r\nutf-7']
        if self.hostile("a parameter as a list"):
            parts += [b'Content-Disposition: form-data; name="prompt[]"\r\n\r\nanother']
        if self.hostile("a file as a field"):
            parts += [b'Content-Disposition: form-data; name="image"\r\n\r\nanother']
        if self.hostile("a field as a file"):
            parts += [b'Content-Disposition: form-data; name="style"; filename="a"\r\n\r\nanother']
        self.rng.shuffle(parts)
        return parts

    # ---- the whole ----------------------------------------------------------------------------------------

    def form(self) -> Form:
        parts = self.parts()
        if self.odd("another byte"):
            changed = self.rng.choice([at for at, part in enumerate(parts) if b"PNG" not in part])
            parts[changed] = self._changed(parts[changed])
        body = b"".join(self._before() + part + b"\r\n" for part in parts)
        body += b"--" + self.line + b"--" + self._end()
        if self.hostile("a preamble"):
            body = (
                self.rng.choice((b"a\r\n", b'Content-Disposition: form-data; name="n"\r\n\r\n9\r\n', b"\x0b", b" "))
                + body
            )
        elif self.rng.random() < self.spice / 2:
            body = b"\r\n" + body
        if self.hostile("cut off"):
            body = body[: self.rng.randrange(len(body) - 4)]
        shapes = TYPES if not self.quoted else {**TYPES, HONEST: TYPES[HONEST][1:2]}
        content_type = str(self.choose("content type", shapes)).replace("{b}", self.boundary)
        return Form(body, content_type, self.tags)

    def _before(self) -> bytes:
        line = b"--" + self.line
        if self.hostile("a line that is not plain"):
            ends = (b"\n", b"\r", b" \r\n", b"\t\r\n", b"\x0b\r\n", b"\r\n\r\n", b"", b"x\r\n", b"-\r\n")
            return line + self.rng.choice(ends)
        return line + b"\r\n"

    def _end(self) -> bytes:
        if self.hostile("an epilogue"):
            more = (
                b"\r\nmore",
                b" ",
                b"\r\n\r\n\r\n",
                b"\n",
                NESTED,
                b'\r\n\r\nContent-Disposition: form-data; name="n"\r\n\r\n9',
            )
            return self.rng.choice(more).replace(b"%s", self.line)
        return self.rng.choice((b"\r\n", b"", b"\r\n\r\n")) if self.rng.random() < self.spice else b"\r\n"

    def _changed(self, body: bytes) -> bytes:
        """One byte more, less or another."""
        at = self.rng.randrange(len(body))
        byte = self.rng.choice(
            (b"\r", b"\n", b"\x0b", b"\x00", b'"', b"\\", b";", b"-", b" ", b"=", b"*", b"\xff", b"")
        )
        return body[:at] + byte + body[at + self.rng.randrange(2) :]


def made(rng: random.Random) -> Form:
    """A form. Nearly half have nothing but honest choices; the others have one or a few that are not."""
    spice, oddity = rng.choice((0.0, 0.15, 0.5)), rng.choice((0.0, 0.0, 0.3))
    return Writer(rng, spice, oddity, rng.choice((0.0, 0.0, 0.005, 0.02, 0.05))).form()
