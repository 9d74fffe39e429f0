"""How the name of a person, or any other value of who asks, counts: one form of it at every door.

Values come in headers, bodies, keys, code and commands, in several spellings of the same letters. `identity` is the one
form in which they count. `person` is what pseudonyms are made of. `likeness` is stricter and only compares two names
where nobody may pass for somebody else: who reviews a request with who asked for it. Pure.
"""

from __future__ import annotations

import unicodedata

from policyguard.errors import ConfigError
from policyguard.text.lookalikes import ALIKE, REAL
from policyguard.text.normal import normalize

# Marks and letters without width that no category tells: joiners, fillers, variation selectors, the empty Braille sign.
_UNSEEN = frozenset(
    map(chr, (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180F, 0x2800, *range(0x180B, 0x180E), *range(0xFE00, 0xFE10)))
) | frozenset(map(chr, range(0xE0100, 0xE01F0)))
_ALIKE = str.maketrans({letter: plain.casefold() for letter, plain in ALIKE.items() if letter not in REAL})


def identity(text: str) -> str:
    """Trimmed, and in composed form (NFC): the same letters are the same text, whoever typed them. Case stays."""
    plain = text.strip()
    return plain if plain.isascii() else normalize("NFC", plain).strip()


def value_of(name: str, value: object) -> str | None:
    """A caller value as code gives it: a text, or a whole number, which counts as its digits. None: nothing is left.

    Raises `ConfigError` for anything else: its text could be another one in another process.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return identity(str.__str__(value)) or None  # of a member of an enumeration: its value
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__repr__(value)
    raise ConfigError(f"the caller's `{name}` must be a text or a whole number: convert it with `str(...)`")


def decoded(raw: bytes) -> str:
    """A header's value: UTF-8 as people send it today, else Latin-1 as HTTP once said."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def person(text: str) -> str:
    """Whom a name stands for. Mail addresses are one person in any case, so that nobody gets a second budget."""
    name = identity(text)
    return name.casefold() if "@" in name else name


def likeness(text: str) -> str:
    """The same for two names that a reader takes for one: case, width, dots at the end, look-alikes do not count.

    Accents count: Zoe and Zoë are two people.
    """
    plain = normalize("NFKC", normalize("NFKC", text).casefold()).translate(_ALIKE)
    seen = "".join(char for char in plain if char not in _UNSEEN and unicodedata.category(char) not in ("Cc", "Cf"))
    words = " ".join(seen.replace("\u3002", ".").split())
    ends = [at for at, char in enumerate(words) if char.isalnum()]
    return words[ends[0] : ends[-1] + 1] if ends else words


def spellings(text: str) -> frozenset[str]:
    """What earlier versions took for other people: decomposed letters, and UTF-8 that was read as Latin-1."""
    forms = {text, identity(text), normalize("NFD", identity(text))}
    return frozenset(forms | {form.encode("utf-8", "surrogatepass").decode("latin-1").strip() for form in forms})
