"""Forms by a grammar: how clients write them, and how somebody would who wants two readers to read two things.

Every choice has honest ways, which have to be accepted, hostile ones, which have to be refused, and odd ones: of those
it is only asked that all readers see the same. A form that is only honest is accepted; one with anything hostile never.
"""

from __future__ import annotations

import io
import random
import zlib
from dataclasses import dataclass, field
from functools import cache

from PIL import Image

HONEST, ODD, HOSTILE = "honest", "odd", "hostile"


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


BOUNDARIES = (
    "b0",
    "x",
    "------------------------d74496d66958873e",
    "----WebKitFormBoundary7MA4YWxkTrZu0gW",
    "dart-http-boundary-+_-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijkl",
    "----------------------------------------",
    "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9",
    "a'b",
    "a" * 80,
)
QUOTED = ("=_(a),b/c:d=e?f", "===============8392017==")  # need quotes

TYPES = {
    HONEST: (
        "multipart/form-data; boundary={b}",
        'multipart/form-data; boundary="{b}"',
        "multipart/form-data;boundary={b}",
        "Multipart/Form-Data; Boundary={b}",
        " multipart/form-data ;\tboundary={b} ",
    ),
    HOSTILE: (
        "multipart/form-data; boundary={b}; charset=utf-8",
        "multipart/form-data; charset=utf-16; boundary={b}",
        "multipart/form-data; boundary={b}; boundary=other",
        "multipart/form-data; boundary=other; boundary={b}",
        "multipart/form-data; boundary*=utf-8''other; boundary={b}",
        "multipart/form-data; boundary={b}; boundary*=utf-8''other",
        "multipart/form-data; boundary*0={b}",
        "multipart/form-data; boundary={b}; boundary*0=other",
        "multipart/form-data; boundary={b};",
        "multipart/form-data; boundary={b}, multipart/form-data; boundary=other",
        "multipart/form-data; boundary={b} x",
        "multipart/form-data; boundary = {b}",
        "multipart/form-data; boundary=\x0b{b}",
        "multipart/form-data; boundary={b}\x0b",
        "multipart/form-data;\x0bboundary={b}",
        "multipart/form-data; boundary='{b}'",
        'multipart/form-data; boundary="\\{b}"',
        'multipart/form-data; boundary="{b}',
        "multipart/form-data, boundary={b}",
        "multipart/form-data; x=1; boundary={b}",
        "multipart/form-data; boundary=",
        "multipart/form-data",
        "multipart/mixed; boundary={b}",
        "multipart/form-data; boundary=a b",
        "multipart/form-data; \u017foundary={b}",
    ),
}
# Around `name="..."`: how the part says what it is.
DISPOSITIONS = {
    HONEST: (
        b"Content-Disposition: form-data; %s",
        b"content-disposition: form-data; %s",
        b"Content-Disposition:form-data;%s",
        b"Content-Disposition: form-data; %s;",
        b"Content-Disposition: form-data; %s ",
        b"Content-Disposition: Form-Data ; %s\t",
    ),
    HOSTILE: (
        b"Content-Disposition: attachment; %s",
        b"Content-Disposition: form-data; %s; x=1",
        b'Content-Disposition: form-data; x="; name=n"; %s',
        b'Content-Disposition: form-data; %s; name="n"',
        b'Content-Disposition: form-data; name="n"; %s',
        b"Content-Disposition: form-data; %s; name*=utf-8''n",
        b"Content-Disposition: form-data; name*=utf-8''n; %s",
        b"Content-Disposition: form-data; name*0=n; %s",
        b"Content-Disposition: form-data; %s; name*0=n; name*1=x",
        b"Content-Disposition: form-data; %s; NAME=n",
        b"Content-Disposition: form-data %s",
        b"Content-Disposition: form-data, %s",
        b"Content-Disposition: form-data;;; %s",
        b"Content-Disposition: form-data; %s name=n",
        b"Content-Disposition: form-data;\x0b%s",
        b"Content-Disposition: form-data; %s\x0b",
        b"Content-Disposition: form-data; %s\x00",
        b"Content-Disposition: form-data; %s\x85",
        b"Content-Disposition: \x0bform-data; %s",
        b"Content-Disposition : form-data; %s",
        b"Content-Disposition\x0b: form-data; %s",
        b"Content-Disposition: form-data;\r\n %s",
        b"Content-Disposition: form-data; %s\r\n\tname=n",
        b"Content-Disposition: form-data; %s\r\nContent-Disposition: form-data; name=n",
        b'Content-Disposition: form-data; name="n"\r\ncontent-disposition: form-data; %s',
        b"Content-Disposition: form-data; %s\nContent-Disposition: form-data; name=n",
        b"Content-Disposition: form-data; %s\rX: y",
        b"X: %s",
    ),
}
NAMES = {
    HONEST: (b'name="%s"', b"name=%s", b'NAME="%s"'),
    HOSTILE: (
        b"name='%s'",
        b'name = "%s"',
        b'name="%s',
        b'name=%s"',
        b'name="%s\x0b"',
        b'name="\x0b%s"',
        b'name="%s "',
        b'name=" %s"',
        b'name="%s\t"',
        b'name="%s\x00"',
        b'name="\\%s"',
        b'name="%s\\""',
        b'name="%s%%22"',
        b'name="%s\xc2\xa0"',
        b'name="%s\xef\xbb\xbf"',
        b'name="%s["',
        b'name="%s]"',
        b'name="%s.x"',
        b'name="a;%s"',
        b"name*=utf-8''%s",
        b"name*0=%s",
        b'name=""',
        b"name=",
        b'nam="%s"',
        b'"name"="%s"',
        b'x%s; name="n"',
    ),
}
FILENAMES = {
    HONEST: (
        b'filename="a.png"',
        b"filename=a.png",
        b"filename=a(1).png",
        b'filename="a b;c.png"',
        b'filename="a\\"b.png"',
        b'filename="a\\\\b.png"',
        b'filename="C:\\photos\\a.png"',
        b'filename="a%22b.png"',
        b'filename="100%.png"',
        b'filename="cats &amp; dogs.png"',
        b'filename="&sol;"',
        b'filename="&#0;"',
        b'filename=".."',
        b'filename="/"',
        b'filename="a/"',
        b'filename="\\\\"',
        b'filename=" "',
        b'filename=""',
        b'filename="a; name=n"',
        b"filename=\"utf-8''a.png\"",
        b'filename="=?utf-8?q?a?="',
        b'filename="' + "f\u00fc\u00df \u5c71.png".encode() + b'"',
        b'filename="\xe9.png"',
        b'filename="' + "a\u2028b\u202ec\u0085.png".encode() + b'"',
        b'filename="' + ("\U0001f600" * 300).encode() + b'.png"',
        b"filename=a.png; filename*=utf-8''%e2%82%ac.png",
        b"filename*=UTF-8''%e2%82%ac.png",
        b"filename*=\"UTF-8''a%20b.png\"",
        b"filename*=utf-8''a%00%0d%0a%22;filename=",
        b"filename*=utf-8''%2D%2Db0%2D%2D%0d%0a",
        b"filename*=iso-8859-1'en'%e9.png",
        b'FileName="a.png"',
    ),
    HOSTILE: (
        b'filename="a.png',
        b'filename="a.png\\"',
        b"filename=a b.png",
        b'filename="a.png"; filename="b.png"',
        b"filename*=utf-8''a; filename*=utf-8''b",
        b"filename*=utf-16''%00a",
        b"filename*=a.png",
        b"filename*0=a.png",
        b"filename*0*=utf-8''a.png",
        b'filename="a\x00.png"',
        b'filename="a\x0b.png"',
        b'filename="a"b.png"',
        b'filename="a"; size=3',
        b'filename = "a.png"',
    ),
}
FIELD_TYPES = {
    HONEST: (
        None,
        b"",
        b"text/plain",
        b"text/plain; charset=utf-8",
        b'text/plain;charset="UTF-8"',
        b"Text/Plain; Charset=us-ascii",
        b"text/plain; charset=ISO-8859-1",
    ),
    HOSTILE: (
        b"text/plain; charset=utf-16",
        b"text/plain; charset=utf-7",
        b"text/plain; charset=utf-8; charset=utf-16",
        b"text/plain; charset*=utf-8''utf-16",
        b"text/plain; format=flowed",
        b"text/html",
        b"application/json",
        b"multipart/mixed; boundary=y",
        b"text/plain\x0b",
        b"text/plain\r\nContent-Type: text/plain; charset=utf-16",
    ),
}
FILE_TYPES = {
    HONEST: (
        None,
        b"",
        b"image/png",
        b"IMAGE/PNG",
        b"application/octet-stream",
        b"image/png; charset=binary",
        b'image/png; name="a; b"',
        b"image/svg+xml",
        b"png",
        b"text/plain; charset=utf-16",
        b'image/png"; x',
    ),
    HOSTILE: (
        b"multipart/mixed; boundary=y",
        b"Multipart/Form-Data; boundary=b0",
        b"message/rfc822",
        b"image/png\x00",
        b"image/png\x0b",
        b"image/png\r\nContent-Type: image/jpeg",
    ),
}
MORE = {
    HONEST: (
        b"Content-Transfer-Encoding: binary",
        b"content-transfer-encoding: 8bit",
        b"Content-Transfer-Encoding: 7BIT",
        b"Content-Length: 7",
        b"Content-Length: -1",
        b"Content-ID: <a>",
        b"X-Own: \xc3\xa9",
        b"X-Own:",
        b"X-Name: name=n",
    ),
    HOSTILE: (
        b"Content-Transfer-Encoding: base64",
        b"Content-Transfer-Encoding: quoted-printable",
        b"Content-Transfer-Encoding: binary\r\nContent-Transfer-Encoding: base64",
        b"Content-Transfer-Encoding: \x0bbase64",
        b"Content-Transfer-Encoding: base64, binary",
        b"X-Own: a\r\nx-own: b",
        b"X-Own: \x00",
        b"X_Own: a",
        b"X Own: a",
        b"no colon",
        b": empty",
        b" folded: a",
        b"X: a\n\nb",
        b"X: a\r\rb",
        b"X: a\nContent-Disposition: form-data; name=n",
    ),
}
NESTED = b'\r\n--%s\r\nContent-Disposition: form-data; name="n"\r\n\r\n9\r\n--%s--\r\n'
HOLDING = (  # the boundary where it is none of ours
    b"--%s",
    b"a --%s b",
    b"\r\n--%s",
    b"\n--%s\n",
    b"\r\n--%s \r\n",
    b"\r\n--%s\x0b\r\n",
    b"\r\n--%s--\r\n",
    b"\r\n--%sx\r\n",
    b'\n--%s\nContent-Disposition: form-data; name="n"\n\n9',
    b'\r--%s\rContent-Disposition: form-data; name="n"\r\r9',
    b'x--%s\r\nContent-Disposition: form-data; name="n"\r\n\r\n9',
)
TEXTS = {
    HONEST: (
        b"a cat",
        "ein Hut \u00e9 \U0001f3a9".encode(),
        b"\xef\xbb\xbfa cat",
        b" a cat\t",
        b"a\r\ncat\r\n",
        b"\r\n\r\na cat",
        b"\n",
        b"\r",
        b"a\x00b",
        b"a\x0bb\x85"[:3],
        b"--",
        b"\r\n--",
        b'--other\r\nContent-Disposition: form-data; name="n"\r\n\r\n9\r\n--other--',
        b"YSBjYXQ=",
        b"%22&quot;&#34;=?utf-8?q?a?=",
    ),
    HOSTILE: (b"\xff", b"a\xc3", b"\xed\xa0\x80"),
}
FREE = ("style", "svg[model]", "a-b_c")
SET = {"size": b"auto", "quality": b"high", "moderation": b"low", "background": b"opaque", "user": b"u1"}
EMPTY = ("response_format", "size", "quality", "n", "stream", "moderation", "user", "style")


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

    def choose(self, what: str, ways: dict[str, tuple], plain: object = None) -> object:
        """The first honest way, or `plain`, mostly."""
        kind = HONEST
        if self.rng.random() < self.hostility and HOSTILE in ways:
            kind = HOSTILE
        elif self.rng.random() >= self.spice:
            return ways[HONEST][0] if plain is None else plain
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

    def _field_type(self, data: bytes) -> object:
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
