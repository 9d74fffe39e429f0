"""One imagined request before one surface's policy: how it is decided, and how people can see it for themselves.

The decision comes from the engine, by the same three calls as in the guard; nothing is decided here.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from policyguard.decision import Adjustment, Effect, Place, Reason, combine
from policyguard.engine import decide
from policyguard.engine.callers import resolve_caller
from policyguard.engine.decide import Screened
from policyguard.policy import world as worlds
from policyguard.policy.model import Policy, PolicySet
from policyguard.policy.world import World
from policyguard.pricing import Quote
from policyguard.request import CATEGORIES, IMAGE_CATEGORIES, ImageRequest, Verdict
from policyguard.text.visible import visible


@dataclass(frozen=True, slots=True)
class Side:
    """One of two sets of policies. Files are shown below `label`, whatever folder they were read from."""

    policies: PolicySet
    label: str

    def shown(self, place: Place | None) -> Place | None:
        if place is None:
            return None
        return place._replace(file=self.label + place.file.removeprefix(self.policies.folder).lstrip("/"))


@dataclass(frozen=True, slots=True)
class Ruling:
    """How one side decides a world. `request` is what would go upstream; `reasons` are all, shadow ones included."""

    effect: Effect
    reasons: tuple[Reason, ...]
    request: ImageRequest
    adjustments: tuple[Adjustment, ...]
    quote: Quote | None

    def above(self, effect: Effect) -> tuple[Reason, ...]:
        """The enforced reasons that are stronger than `effect`, each place once."""
        found = {(r.id, r.place): r for r in self.reasons if r.enforced and r.effect > effect}
        return tuple(found.values())


def rule(policies: PolicySet, policy: Policy, world: World) -> Ruling:
    """The engine's decision of a world, with moderation as the world has it."""
    screened = _screened(policies, policy, world)
    return _ruling(screened) if screened.refused else _judged(screened, world)


def _screened(policies: PolicySet, policy: Policy, world: World) -> Screened:
    """With a request of its own: how much of a prompt is read is up to a policy, and the request keeps it."""
    caller, unknown = resolve_caller(policies.caller, worlds.caller(world))
    return decide.screen(policy, worlds.request(world), caller, world["now"], found=unknown)


def _judged(screened: Screened, world: World) -> Ruling:
    prompt, images = screened.check_prompt, screened.check_images
    seen = worlds.verdict(world, screened.policy.moderation.model, prompt=prompt, images=images)
    judged = decide.judge(screened, seen, worlds.answered(world))
    if judged.refused:
        return _ruling(judged)
    return _ruling(judged._replace(reasons=(*judged.reasons, *_inspected(judged, seen, world))))


def _inspected(judged: Screened, seen: Verdict | None, world: World) -> tuple[Reason, ...]:
    """What is said of the answer, a held request's included: it has one when it is approved."""
    policy, output = judged.policy, None
    if not policy.inspects_output:
        return ()
    if policy.checks_output:
        output = worlds.output_verdict(world, policy.moderation.model)
    return decide.inspect(policy, judged.request, judged.caller, judged.now, seen, worlds.answered(world), output)


def _ruling(known: Screened) -> Ruling:
    return Ruling(combine(known.reasons), known.reasons, known.request, known.adjustments, known.quote)


@dataclass(frozen=True, slots=True)
class Pair:
    """The two policies of one surface."""

    old_set: PolicySet
    new_set: PolicySet
    old: Policy
    new: Policy
    now: datetime

    @property
    def both(self) -> tuple[tuple[PolicySet, Policy], tuple[PolicySet, Policy]]:
        return (self.old_set, self.old), (self.new_set, self.new)

    def rulings(self, world: World, *, whole: bool = False) -> tuple[Ruling, Ruling]:
        """How both sides decide. A side that refuses before moderation says no more, unless `whole` is wanted."""
        old, new = (_screened(policies, policy, world) for policies, policy in self.both)
        first, second = (_ruling(s) if s.refused and not whole else _judged(s, world) for s in (old, new))
        return first, second


# ---- for people -------------------------------------------------------------------------------------------

_OPTIONS = {
    "model": "--model",
    "size": "--size",
    "quality": "--quality",
    "n": "--n",
    "background": "--background",
    "output_format": "--output-format",
    "partial_images": "--partial-images",
}
_SILENT = {"background": "auto", "output_format": "png", "partial_images": 0}  # as if nothing was said
_MAX_PROMPT = 200
SMALL = 8  # bytes of an image that nobody minds


def command(surface: str, world: World, now: datetime) -> str:
    """The world as one line for `policyguard explain`, with what it cannot say behind a `#`."""
    words = ["policyguard", "explain", surface, *_request(world), *_caller(world)]
    words += [*_scores(world), *_answers(world), *_output(world)]
    if world["now"] != now:
        words += ["--now", world["now"].isoformat()]
    note = ", ".join(_unsaid(world))
    return " ".join(map(_quoted, words)) + (f"  # {note}" if note else "")


def _quoted(word: str) -> str:
    """For a shell, in one line: what cannot be printed is written as bash's `$'...'` does."""
    if word.isprintable() and visible(word) == word:
        return shlex.quote(word)
    return "$'" + "".join(_escaped(character) for character in word) + "'"


def _escaped(character: str) -> str:
    if character in "'\\":
        return f"\\{character}"
    return character if character.isprintable() and visible(character) == character else f"\\U{ord(character):08x}"


def _request(world: World) -> Iterator[str]:
    prompt: str = world["prompt"]
    if prompt == "x" * len(prompt) or len(prompt) > _MAX_PROMPT:
        yield from ("--prompt-chars", str(len(prompt)))
    elif prompt != "a cat":
        yield from ("--prompt", prompt)
    for name, option in _OPTIONS.items():
        if world[name] is not None and world[name] != _SILENT.get(name):
            yield from (option, str(world[name]))
    images: worlds.Images = world["images"]
    if images.number:
        yield from ("--input-images", str(images.number))
    if images.has_mask:
        yield "--mask"


def _caller(world: World) -> Iterator[str]:
    for name, value in worlds.caller(world).items():
        yield from ("--caller", f"{name}={value}")


def _scores(world: World) -> Iterator[str]:
    assessed = worlds.scores(world)
    if assessed is None:
        yield "--unavailable"
        return
    yield from _scored("--score", assessed, CATEGORIES)


def _output(world: World) -> Iterator[str]:
    yield from _scored("--output-score", worlds.output(world) or {}, IMAGE_CATEGORIES)


def _scored(option: str, found: Mapping[str, float], assessed: tuple[str, ...]) -> Iterator[str]:
    for category in assessed:
        score = found.get(category)
        if score != 0:
            yield from (option, f"{category}={'unavailable' if score is None else f'{score:.9g}'}")


def _answers(world: World) -> Iterator[str]:
    known = worlds.answers(world)
    for name in worlds.questions(world):
        if known.get(name) != 0:
            yield from ("--answer", f"{name}={'unavailable' if name not in known else f'{known[name]:.9g}'}")


def _unsaid(world: World) -> Iterator[str]:
    prompt: str = world["prompt"]
    if len(prompt) > _MAX_PROMPT and prompt != "x" * len(prompt):
        yield f"the prompt is {_quoted(prompt[:60])}..."
    if world.get("scored") == "image":
        yield "the scores are those of the input image"
    if world["image_bytes"] > SMALL and world["images"].number:
        yield f"each image has {world['image_bytes']:,} bytes"
    if world["images"].number:
        yield from _of_pictures(world)
    if extra := world.get("extra"):
        yield f"with an unknown parameter `{next(iter(extra))}`"


def _of_pictures(world: World) -> Iterator[str]:
    if (kind := world.get("image_type", "png")) != "png":
        yield f"each image is a {kind}"
    if size := world.get("image_size"):
        yield f"each image has {size} pixels"
    if host := world.get("image_host"):
        yield f"each image is at {host}"


def request_row(world: World) -> Mapping[str, Any]:
    """The world as data, without what is left out or plain."""
    assessed, output = worlds.scores(world), worlds.output(world)
    images: worlds.Images = world["images"]
    row = {name: world[name] for name in _OPTIONS if world[name] is not None and world[name] != _SILENT.get(name)}
    known = worlds.answers(world)
    answers = {name: known.get(name, "unavailable") for name in worlds.questions(world) if known.get(name) != 0}
    return {
        "request": {**row, "prompt": world["prompt"], "operation": images.operation, "input_images": images.number},
        "caller": dict(worlds.caller(world).items()),
        "scores": "unavailable" if assessed is None else {c: s for c, s in assessed.items() if s},
        "output": "unavailable" if output is None else {c: s for c, s in output.items() if s},
        **({"answers": answers} if answers else {}),
        "now": world["now"].isoformat(),
    }
