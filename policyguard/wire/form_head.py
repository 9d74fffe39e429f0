"""The headers of a form's part: read as the strictest reader does, or refused, and written in one way.

What goes on has headers that are written here. How others read quotes, escapes, character sets or a name that is there
twice then decides nothing: they see the name, the file and the text that were looked at.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from policyguard.errors import InvalidRequest

MAX_FILENAME = 150  # characters: Django takes 1,024 bytes for all headers of a part
_TOKEN = rb"[A-Za-z0-9_-]"
_NAME = re.compile(rb"%s+(?:\[%s*\])*" % (_TOKEN, _TOKEN))
_HEADER_NAME = re.compile(rb"[a-z0-9-]{1,100}")
_HEADER_VALUE = re.compile(rb"[\x20-\x7e\x80-\xff\t]*")
_PARAMETER = re.compile(
    rb'[ \t]*;[ \t]*(name|filename\*?)=(?:"((?:[^"\\]|\\.)*)"|([^\x00-\x20\x7f"\\;]*))(?=[ \t]*(?:;|$))', re.IGNORECASE
)
_ESCAPE = re.compile(rb'\\(["\\])')  # and no other: old browsers write whole Windows paths
_NOTHING_MORE = re.compile(rb"[ \t]*;?[ \t]*")
_ENCODED = re.compile(rb"(utf-8|us-ascii|iso-8859-1)'[A-Za-z-]{0,20}'(.*)", re.IGNORECASE)
_TEXT = re.compile(rb'text/plain[ \t]*(?:;[ \t]*charset=(?:"([\w-]+)"|([\w-]+))[ \t]*)?;?', re.IGNORECASE)
_MEDIA_TYPE = re.compile(rb"([a-z0-9!#$&^_.+-]{1,40}/[a-z0-9!#$&^_.+-]{1,60})[ \t]*(?:;|$)")
_IDENTITY = frozenset({b"binary", b"8bit", b"7bit"})  # the part is sent as it is
_ASCII = frozenset({b"us-ascii", b"ascii", b"iso-8859-1"})  # the same bytes in UTF-8, as long as they are ASCII


@dataclass(frozen=True, slots=True)
class Head:
    """`filename` None is a field, "" a file without a name. `ascii`: a field that says that it is no UTF-8."""

    name: str
    filename: str | None = None
    content_type: str | None = None
    ascii: bool = False

    def write(self) -> bytes:
        filename = "" if self.filename is None else f'; filename="{self.filename or "file"}"'
        type_ = f"\r\nContent-Type: {self.content_type}" if self.content_type else ""
        return f'Content-Disposition: form-data; name="{self.name}"{filename}{type_}\r\n\r\n'.encode()


def read_head(headers: list[tuple[bytes, bytes]]) -> Head:
    """Of headers with names in lower case, and values without spaces around them. Raises `InvalidRequest`."""
    found = dict(headers)
    if len(found) != len(headers):
        raise InvalidRequest("a form part has a header twice")
    if not all(_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value) for name, value in headers):
        raise InvalidRequest("a form part has a header that is not plain")
    if found.get(b"content-transfer-encoding", b"binary").lower() not in _IDENTITY:
        raise InvalidRequest("a form part is encoded: its `Content-Transfer-Encoding` may be binary, 8bit or 7bit")
    given = _parameters(found.get(b"content-disposition", b""))
    name, filename = _name(given), _filename(given)
    type_ = found.get(b"content-type", b"")
    if filename is None:
        return Head(name, ascii=_is_ascii(type_))
    return Head(name, filename, _media_type(type_))


def _parameters(disposition: bytes) -> dict[bytes, bytes]:
    """Each at most once, in any order, as it stands between its quotes."""
    at = len(b"form-data")
    if disposition[:at].lower() != b"form-data":
        raise InvalidRequest("a form part has no `Content-Disposition: form-data`")
    given: dict[bytes, bytes] = {}
    while match := _PARAMETER.match(disposition, at):
        key = match[1].lower()
        if key in given:
            raise _unread(key)
        given[key] = match[3] if match[2] is None else match[2]
        if key == b"name" and match[2] is None and b"[" in match[3]:
            raise _unread(key)
        at = match.end()
    if not _NOTHING_MORE.fullmatch(disposition, at):
        raise _unread(disposition[at:].lower())
    return given


def _unread(where: bytes) -> InvalidRequest:
    """Says which name cannot be read: the one that is there, or begins there."""
    if where.lstrip(b" \t;").startswith(b"filename"):
        return InvalidRequest('a file name in the form cannot be read: write it as `filename="image.png"`')
    return InvalidRequest('a form part has no plain name: write it as `name="prompt"`')


def _name(given: dict[bytes, bytes]) -> str:
    name = given.get(b"name", b"")
    if not _NAME.fullmatch(name) or len(name) > 100 or name.lower() == b"_charset_":
        raise _unread(b"name")
    return name.decode()


def _filename(given: dict[bytes, bytes]) -> str | None:
    plain, encoded = given.get(b"filename"), given.get(b"filename*")
    match = _ENCODED.fullmatch(encoded) if encoded is not None else None
    if encoded is not None and match is None:
        raise _unread(b"filename*")
    if plain:
        return _safe(_ESCAPE.sub(rb"\1", plain).decode("utf-8", "replace"))
    if match is not None:
        return _safe(unquote_to_bytes(match[2]).decode(match[1].decode(), "replace"))
    return None if plain is None else ""


def _safe(filename: str) -> str:
    """A file name that every reader takes for the same one: some unescape it, or drop a file whose name is a folder."""
    kept = filename.replace("%22", '"')[-MAX_FILENAME:]
    safe = "".join(c if c.isprintable() and c not in '"\\/' else "_" for c in kept)
    if html.unescape(safe) != safe:
        safe = safe.replace("&", "_")
    return safe if safe.strip(" .") else ""


def _is_ascii(type_: bytes) -> bool:
    """Whether a field of this type has to be ASCII. A field in another character set is another text upstream."""
    match = _TEXT.fullmatch(type_ or b"text/plain")
    if match is None:
        raise InvalidRequest("a form part without a file name must be plain text: a file needs `filename=`")
    charset = (match[1] or match[2] or b"utf-8").lower()
    if charset not in (b"utf-8", b"utf8") and charset not in _ASCII:
        raise InvalidRequest("a form field is no UTF-8 text")
    return charset in _ASCII


def _media_type(type_: bytes) -> str | None:
    """Without its parameters; None for what is no media type. A part of parts would be several files."""
    match = _MEDIA_TYPE.match(type_.lower())
    if match is not None and match[1].startswith((b"multipart/", b"message/")):
        raise InvalidRequest("a form part holds parts of its own")
    return match[1].decode() if match else None
