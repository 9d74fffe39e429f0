"""Moderation scores without a model: a table of harmless theatrical words, a little noise, and scripts in the prompt.

Deterministic: the same text always scores the same. `[sandbox: violence=0.91, sexual=0.4]` in a prompt sets its scores,
and answers to questions by name; `[sandbox output: violence=0.91]` sets those of the pictures that are made of it, in
which it stands as a comment.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from policyguard.request import CATEGORIES

# Words that a play or a fair would use. What they score is made up, and stands here for whoever writes prompts.
WORDS: Mapping[str, Mapping[str, float]] = {
    "duel": {"violence": 0.34},
    "joust": {"violence": 0.36},
    "catapult": {"violence": 0.38},
    "stage fight": {"violence": 0.41},
    "pirate raid": {"violence": 0.44},
    "battle": {"violence": 0.46},
    "swordfight": {"violence": 0.58},
    "explosion": {"violence": 0.66},
    "ambush": {"violence": 0.72},
    "zombie": {"violence": 0.35, "violence/graphic": 0.57},
    "skeleton army": {"violence/graphic": 0.53},
    "corset": {"sexual": 0.22},
    "swimwear": {"sexual": 0.34},
    "pin-up": {"sexual": 0.61},
    "curse": {"hate": 0.24},
    "villain's threat": {"harassment/threatening": 0.55},
    "lockpick": {"illicit": 0.52},
}
_SCRIPT = re.compile(r"\[sandbox:([^\]]*)\]")
_ASSIGNMENT = re.compile(r"([a-z/-]+)\s*=\s*([01](?:\.\d+)?|\.\d+)")
_ANSWER = re.compile(r"([a-z][a-z0-9_]*)\s*=\s*([01](?:\.\d+)?|\.\d+|refusal)")
BLOCK = "[sandbox: block]"
_OUTPUT = re.compile(r"\[sandbox output:([^\]]{1,200})\]", re.ASCII)
REFUSAL = "refusal"


def text_scores(text: str) -> dict[str, float]:
    """A score for each of the 13 categories."""
    lowered = text.lower()
    scores = {category: _noise(category, lowered) for category in CATEGORIES}
    for word, found in WORDS.items():
        if word in lowered:
            for category, score in found.items():
                scores[category] = max(scores[category], score)
    for script in _SCRIPT.findall(lowered):
        scores |= {name: float(value) for name, value in _ASSIGNMENT.findall(script) if name in scores}
    return scores


def output_script(prompt: str) -> str:
    """What a prompt says of its pictures; empty where it says nothing."""
    match = _OUTPUT.search(prompt)
    return match[0] if match else ""


def scripted_answers(text: str) -> dict[str, str]:
    """What scripts in a text answer to questions by name: a probability, or a refusal."""
    return {name: value for script in _SCRIPT.findall(text) for name, value in _ANSWER.findall(script)}


def image_scores(data: bytes) -> dict[str, float]:
    """Pictures score by noise, but for what their comment says."""
    digest = hashlib.sha256(data).hexdigest()
    scores = {category: _noise(category, digest) for category in CATEGORIES}
    script = output_script(data.decode("latin-1"))
    return scores | {name: float(value) for name, value in _ASSIGNMENT.findall(script) if name in scores}


def _noise(category: str, text: str) -> float:
    """From 0.0001 to 0.02."""
    first = hashlib.sha256(f"{category}:{text}".encode()).digest()
    return round(0.0001 + int.from_bytes(first[:4]) / 2**32 * 0.0199, 6)
