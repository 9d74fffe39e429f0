"""One imagined request with everything around it: what a condition could read, as one mapping that can be varied.

A world maps subjects to values: what varies by itself. A size is one subject, because width, height and pixels
come with it; so are the input images, because an edit needs one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from policyguard.policy.expr import CallerType, Environment
from policyguard.policy.model import CallerField
from policyguard.pricing import price_book
from policyguard.request import (
    CATEGORIES,
    IMAGE_CATEGORIES,
    Answers,
    Caller,
    ImageRequest,
    InputImage,
    Verdict,
    parse_size,
)

World = Mapping[str, Any]


class Images(NamedTuple):
    """What a request brings along."""

    operation: Literal["generate", "edit"]
    number: int
    has_mask: bool


NO_IMAGES = Images("generate", 0, False)
ONE_IMAGE = Images("edit", 1, False)
NOON = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
_ANSWERS = "answers."
_SUBJECTS = {
    "request.width": "size",
    "request.height": "size",
    "request.pixels": "size",
    "request.obfuscated": "prompt",
    "request.operation": "images",
    "request.input_images": "images",
    "request.has_mask": "images",
}
_PLAIN: World = {
    "images": NO_IMAGES,
    "prompt": "a cat",
    "size": "1024x1024",
    "quality": "low",
    "n": 1,
    "background": "auto",
    "output_format": "png",
    "partial_images": 0,
    "scores": {},
    "output": {},
    "surface": "any",
}


def subject_of(path: str) -> str:
    """What varies when `path`, a dotted name of a condition, does."""
    return _SUBJECTS.get(path) or path.removeprefix("request.")


def plain_world(environment: Environment, now: datetime = NOON) -> dict[str, Any]:
    """A request that nobody minds: one small picture, no score above 0, a caller with what is always there."""
    model = next(name for name, row in price_book().models.items() if row.usable)
    callers = {f"caller.{name}": _anyone(declared) for name, declared in environment.caller.items()}
    answered = {_ANSWERS + name: 0.0 for name in sorted(environment.answers)}
    return {**_PLAIN, "model": model, "now": now, **callers, **answered}


def _anyone(declared: CallerType) -> str | None:
    if declared.optional:
        return None
    return declared.values[0] if declared.values else "somebody"


# ---- as conditions read it --------------------------------------------------------------------------------


def inputs(world: World) -> dict[str, Any]:
    """What conditions read, by root name."""
    return {
        "request": request(world),
        "caller": caller(world).values,
        "scores": scores(world),
        "output": output(world),
        "answers": answers(world),
        "surface": world["surface"],
        "now": world["now"],
    }


def scores(world: World) -> dict[str, float] | None:
    """The categories that were assessed; None where moderation is down."""
    return _scores(world, "scores", CATEGORIES)


def output(world: World) -> dict[str, float] | None:
    """The same of the pictures that came out."""
    return _scores(world, "output", IMAGE_CATEGORIES)


def _scores(world: World, name: str, assessed: tuple[str, ...]) -> dict[str, float] | None:
    if world[name] is None:
        return None
    own = {category: world.get(f"{name}.{category}", world[name].get(category, 0.0)) for category in assessed}
    return {category: score for category, score in own.items() if score is not None}


def questions(world: World) -> list[str]:
    """The names of those that are asked."""
    return [name.removeprefix(_ANSWERS) for name in world if name.startswith(_ANSWERS)]


def answers(world: World) -> dict[str, float]:
    """The probabilities by question; one that is not there is unavailable."""
    return {name: world[_ANSWERS + name] for name in questions(world) if world[_ANSWERS + name] is not None}


# ---- as the engine takes it -------------------------------------------------------------------------------


def request(world: World) -> ImageRequest:
    """None stays what the client did not say."""
    images: Images = world["images"]
    picture, host = _picture(world), world.get("image_host")
    pictures = (InputImage(b"", "", url=f"https://{host}/picture.png") if host else picture,) * images.number
    return ImageRequest(
        prompt=world["prompt"],
        operation=images.operation,
        model=world["model"],
        size=world["size"],
        quality=world["quality"],
        n=world["n"],
        background=None if world["background"] == "auto" else world["background"],
        output_format=world["output_format"],
        partial_images=world["partial_images"],
        images=pictures,
        mask=picture if images.has_mask else None,
        extra=world.get("extra", {}),
    )


def _picture(world: World) -> InputImage:
    kind, size = world.get("image_type", "png"), parse_size(world.get("image_size") or "")
    return InputImage(bytes(world.get("image_bytes", 8)), f"image/{kind}", size=size)


def caller(world: World) -> Caller:
    prefix = "caller."
    return Caller.of({name.removeprefix(prefix): value for name, value in world.items() if name.startswith(prefix)})


def verdict(world: World, model: str, *, prompt: bool = True, images: bool = False) -> Verdict | None:
    """What a moderator says that looks at the prompt, at the images or at both; None where it looks at nothing.

    The scores are those of the prompt, or of an image where the world says `scored: image`.
    """
    if not prompt and not images:
        return None
    found = scores(world)
    if found is None:
        return Verdict(model=model, error="down")
    is_seen = images if world.get("scored") == "image" else prompt
    return Verdict(model=model, scores=found if is_seen else dict.fromkeys(CATEGORIES, 0.0))


def output_verdict(world: World, model: str) -> Verdict:
    """What a moderator says of the pictures that came out."""
    found = output(world)
    return Verdict(model=model, error="down") if found is None else Verdict(model=model, scores=found)


def answered(world: World) -> Answers:
    """What the questions are answered."""
    return Answers(model="any", probabilities=answers(world))


def environment_of(fields: tuple[CallerField, ...], questions: Iterable[str] = ()) -> Environment:
    """The environment of conditions in which these callers are declared, and these questions are asked."""
    callers = {f.name: CallerType(not f.required and f.default is None, f.values) for f in fields}
    return Environment(callers, frozenset(questions))
