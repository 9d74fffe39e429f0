"""What a prompt says to a person who reads it: encodings undone, look-alike letters replaced, spelled-out words joined.

Pure, of linear time, and only for judging: the prompt that goes upstream is never changed. `read` also says whether the
prompt hides its letters in a way that no plain text has. Typos, starred letters and ciphers are not undone.
"""

from __future__ import annotations

from typing import NamedTuple

from policyguard.text import characters, encodings, words

MAX_CHARS = 32_000  # the API's own bound on a prompt


class Reading(NamedTuple):
    """`text` is the prompt itself where there is nothing to undo. `hidden`: it hides its letters."""

    text: str
    hidden: bool


def read(prompt: str, max_chars: int = MAX_CHARS) -> Reading:
    """What `prompt` says, and whether it hides that. Never raises; at most six times as long as the prompt.

    Only the first `max_chars` are read; the rest stays as it is.
    """
    text, hidden = prompt[:max_chars], False
    for step in (encodings.decode, characters.reveal, words.join):
        text, found = step(text)
        hidden = hidden or found
    return Reading(text + prompt[max_chars:], hidden)
