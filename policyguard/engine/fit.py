"""Parameters against the rules for them: defaults, checks, and adjustments that only go down.

Pure. Every refusal names the parameter, the value where it is harmless to repeat, and the place of the rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from policyguard import pricing
from policyguard.decision import Adjustment, Effect, Kind, Mode, Place, Reason
from policyguard.policy.model import Plain, RequestRules
from policyguard.pricing import PriceBook
from policyguard.request import AUTO, ImageRequest, parse_size
from policyguard.text.suggest import listed, one_of

QUALITY_RANK = {"low": 0, "medium": 1, "high": 2, "xhigh": 3, "max": 4}
_IMPOSTOR = re.compile(
    "prompt|image|mask|messages|input|instruction|markup|"
    r"^\W*(model|size|quality|n|moderation|stream|user|safety_identifier|output_format|background)\W*$"
)
_PLAIN_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)


@dataclass(slots=True)
class Fitting:
    """The work on one request under one set of rules."""

    rules: RequestRules
    request: ImageRequest
    mode: Mode
    auto_unlisted: bool = False  # whether `auto` passes where nothing is listed: for limits, never for a surface
    fixed: frozenset[str] = frozenset()  # parameters that the door cannot change: beyond the rules they are denied
    reasons: list[Reason] = field(default_factory=list)
    adjustments: list[Adjustment] = field(default_factory=list)

    def deny(self, name: str, message: str, hint: str = "", *, param: str | None = None, **values: Any) -> None:
        self.reasons.append(
            Reason(
                id=f"request.{name}",
                kind=Kind.PARAMETER,
                effect=Effect.DENY,
                message=message,
                place=self.place(name),
                mode=self.mode,
                param=param or name,
                values=values,
                hint=hint,
            )
        )

    def adjust(self, name: str, given: str | int) -> None:
        asked = getattr(self.request, name)
        self.adjustments.append(Adjustment(name, str(asked), str(given)))
        change: dict[str, Any] = {name: given}
        self.request = replace(self.request, **change)

    def may_adjust(self, name: str) -> bool:
        return self.rules.on_excess == "adjust" and name not in self.fixed

    def place(self, name: str) -> Place | None:
        return self.rules.places.get(name)


def with_defaults(rules: RequestRules, request: ImageRequest) -> ImageRequest:
    """What the request means where it says nothing: the policy's default, else `auto`; one image; no partial images."""
    changes: dict[str, Any] = {}
    if request.model is None and rules.default_model is not None:
        changes["model"] = rules.default_model
    if request.size is None:
        changes["size"] = rules.default_size or AUTO
    if request.quality is None:
        changes["quality"] = rules.default_quality or AUTO
    if request.n is None:
        changes["n"] = 1
    if request.stream and request.partial_images is None:
        changes["partial_images"] = 0
    if request.main is not None and request.max_output_tokens is None and rules.max_output_tokens is not None:
        changes["max_output_tokens"] = rules.max_output_tokens
    return replace(request, **changes) if changes else request


def fits(plain: Plain | None, request: ImageRequest) -> bool:
    """Whether a request is plainly as the policy wants it: `fit` and `forced` would change and say nothing."""
    return (
        plain is not None
        and request.model in plain.models
        and request.size in plain.sizes
        and request.quality in plain.qualities
        and request.n is not None
        and request.n <= plain.max_n
        and (plain.formats is None or (request.output_format or "png") in plain.formats)
        and len(request.prompt) <= plain.max_prompt_chars
        and (request.moderation is None or request.moderation == AUTO)
        and not (request.images or request.mask or request.partial_images or request.stream or request.extra)
        and request.main is None
    )


def fit(
    rules: RequestRules,
    request: ImageRequest,
    mode: Mode,
    *,
    auto_unlisted: bool = False,
    fixed: frozenset[str] = frozenset(),
) -> Fitting:
    """Check `request` (defaults filled in) and bring it down where the rules say `adjust` and the door can do it."""
    fitting = Fitting(rules, request, mode, auto_unlisted, fixed)
    for check in _CHECKS:
        check(fitting)
    return fitting


def _at_most(top: int) -> str:
    return f"at most {top:,} are allowed here" if top else "none are allowed here"


def _model(f: Fitting) -> None:
    allowed = f.rules.models
    if f.request.model is None:
        f.deny("model", "the request names no model, and there is no default", one_of(allowed or ()))
    elif allowed is not None and f.request.model not in allowed:
        name = f.request.model
        hint = one_of(allowed, name)
        f.deny("model", f"the model `{name}` is not allowed here", hint, value=name, allowed=list(allowed))


def _quality(f: Fitting) -> None:
    asked, allowed = f.request.quality, f.rules.qualities
    if asked is None or (asked in allowed if allowed is not None else asked != AUTO or f.auto_unlisted):
        return
    best = _quality_for(f, asked) if f.may_adjust("quality") else None
    if best is None:
        hint = one_of(pricing.qualities(f.request.model or "", f.rules.prices) if allowed is None else allowed)
        f.deny("quality", f"the quality `{asked}` is not allowed here", hint, value=asked, allowed=list(allowed or ()))
    else:
        f.adjust("quality", best)


def _quality_for(f: Fitting, asked: str) -> str | None:
    """`auto` asks for the policy's own choice, as a request that says nothing does; it is the dearest there is."""
    if asked == AUTO:
        return f.rules.default_quality
    return _highest_below(asked, f.rules.qualities or (), f.request.model, f.rules.prices)


def _highest_below(asked: str, allowed: tuple[str, ...], model: str | None, prices: PriceBook) -> str | None:
    rank = QUALITY_RANK.get(asked, -1)
    known = pricing.qualities(model, prices) if model else ()
    lower = [q for q in allowed if q in known and QUALITY_RANK.get(q, 99) <= rank]
    return max(lower, key=QUALITY_RANK.__getitem__, default=None)


def _size(f: Fitting) -> None:
    asked = f.request.size
    if asked is None or f.rules.admits_size(asked, auto_unlisted=f.auto_unlisted):
        return
    best = _largest_within(f) if f.may_adjust("size") else None
    if best is None:
        bounds = _size_bounds(f.rules)
        f.deny("size", f"the size `{asked}` is not allowed here", _size_hint(f.rules), value=asked, **bounds)
    else:
        f.adjust("size", best)


def _size_bounds(rules: RequestRules) -> dict[str, Any]:
    bounds = {"allowed": rules.sizes, "max_pixels": rules.max_pixels, "max_edge": rules.max_edge}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in bounds.items() if v is not None}


def _size_hint(rules: RequestRules) -> str:
    """The sizes that are listed and within the bounds; without a list, the bounds."""
    if rules.sizes is not None:
        return one_of([text for text in rules.sizes if rules.admits_size(text)])
    pixels = f"at most {rules.max_pixels:,} pixels" if rules.max_pixels is not None else ""
    edge = f"edges of at most {rules.max_edge:,} pixels" if rules.max_edge is not None else ""
    return "say one like `1024x1024`" + "".join(f", {bound}" for bound in (pixels, edge) if bound)


def _largest_within(f: Fitting) -> str | None:
    """The largest allowed size inside the asked one that costs no more: a square can cost more than a wider picture.

    For `auto` it is the policy's own choice, as for a request that says nothing: `auto` is the dearest there is.
    """
    if f.request.size == AUTO:
        return f.rules.default_size
    asked = parse_size(f.request.size or "")
    if asked is None or f.rules.sizes is None:
        return None
    price = _tokens(f.request, str(asked), f.rules.prices)
    inside = [
        size
        for text in f.rules.sizes
        if (size := parse_size(text)) and size.width <= asked.width and size.height <= asked.height
        if f.rules.admits_size(text)
        and price is not None
        and (_tokens(f.request, text, f.rules.prices) or price + 1) <= price
    ]
    best = max(inside, key=lambda s: (s.pixels, s), default=None)
    return str(best) if best else None


def _tokens(request: ImageRequest, size: str, prices: PriceBook) -> int | None:
    try:
        return pricing.output_tokens(request.model or "", size, request.quality or AUTO, 1, 0, prices)
    except pricing.UnknownPrice:
        return None


def _n(f: Fitting) -> None:
    asked, top = f.request.n or 1, f.rules.max_n
    if top is None or asked <= top:
        return
    if f.may_adjust("n"):
        f.adjust("n", top)
    else:
        f.deny("n", f"{asked} images in one request are too many", _at_most(top), value=asked, max=top)


def _output_format(f: Fitting) -> None:
    asked = f.request.output_format or "png"  # the API's own default
    if f.rules.formats is not None and asked not in f.rules.formats:
        allowed = f.rules.formats
        message = f"the output format `{asked}` is not allowed here"
        f.deny("output_format", message, one_of(allowed), value=asked, allowed=list(allowed))


def _partial_images(f: Fitting) -> None:
    asked, top = f.request.partial_images or 0, f.rules.max_partial_images
    if asked <= top:
        return
    if f.may_adjust("partial_images"):
        f.adjust("partial_images", top)
    else:
        f.deny("partial_images", "too many partial images", _at_most(top), value=asked, max=top)


def _main_model(f: Fitting) -> None:
    main, allowed = f.request.main, f.rules.main_models
    if main is None or allowed is None or main.name in allowed:
        return
    if not allowed:
        f.deny("responses", "no main model may ask for images here", param="model")
    else:
        message = f"the main model `{main.name}` may not ask for images here"
        hint = one_of(allowed, main.name)
        f.deny("responses", message, hint, param="model", value=main.name, allowed=list(allowed))


def _max_output_tokens(f: Fitting) -> None:
    asked, top = f.request.max_output_tokens, f.rules.max_output_tokens
    if f.request.main is None or top is None or (asked is not None and asked <= top):
        return
    if f.may_adjust("max_output_tokens"):
        f.adjust("max_output_tokens", top)
    else:
        message = "too many output tokens of the main model"
        f.deny("responses", message, _at_most(top), param="max_output_tokens", value=asked, max=top)


def _prompt(f: Fitting) -> None:
    length, top = len(f.request.prompt), f.rules.max_prompt_chars
    if top is not None and length > top:
        f.deny("prompt", f"the prompt has {length:,} characters", _at_most(top), chars=length, max=top)


def _input_images(f: Fitting) -> None:
    count, top = len(f.request.images), f.rules.max_input_images
    if top is not None and count > top:
        f.deny("input_images", f"{count} input images are too many", _at_most(top), param="image", count=count, max=top)
    if not count:
        return
    limit = f.rules.max_input_bytes
    largest = max(len(image.data) for image in f.request.input_images)
    if limit is not None and largest > limit:
        message = f"an input image has {largest:,} bytes"
        f.deny("input_images", message, _at_most(limit), param="image", bytes=largest, max=limit)
    _image_types(f)
    _image_sizes(f)


def _image_types(f: Fitting) -> None:
    """What they are, and where: of images elsewhere only the host is known. A mask has the one type there is for it."""
    allowed, hosts = f.rules.input_types, f.rules.input_hosts
    types = {image.media_type.removeprefix("image/") for image in f.request.images if not image.url}
    if allowed is not None and not types <= set(allowed):
        wrong = sorted(types - set(allowed))
        message = f"an input image of the type `{wrong[0]}` is not allowed here"
        f.deny("input_images", message, one_of(allowed), param="image", value=wrong, allowed=list(allowed))
    if hosts is not None and any(image.host not in hosts for image in f.request.input_images if image.url):
        message = "an input image is at a host that is not allowed here"
        hint = "send it as a data URL" + (f", or from {listed(hosts)}" if hosts else "")
        f.deny("input_images", message, hint, param="image", allowed=list(hosts))


def _image_sizes(f: Fitting) -> None:
    sizes = [image.size for image in f.request.input_images if image.size is not None]
    most, edge = f.rules.max_input_pixels, f.rules.max_input_edge
    pixels, longest = max((s.pixels for s in sizes), default=0), max((s.edge for s in sizes), default=0)
    if most is not None and pixels > most:
        message = f"an input image has {pixels:,} pixels"
        f.deny("input_images", message, _at_most(most), param="image", pixels=pixels, max=most)
    if edge is not None and longest > edge:
        message = f"an edge of an input image has {longest:,} pixels"
        f.deny("input_images", message, _at_most(edge), param="image", edge=longest, max=edge)


def _extra(f: Fitting) -> None:
    """`pass` is for single values: never for what could be a prompt, a picture or another spelling of what is known."""
    for name, value in f.request.extra.items():
        if f.rules.unknown_parameters == "deny" or isinstance(value, dict | list) or _IMPOSTOR.search(name.lower()):
            plain = name if _PLAIN_NAME.fullmatch(name) else "an unnamed parameter"  # a key can hold anything
            message = f"{f'`{plain}`' if plain == name else plain} is not a parameter that this surface lets through"
            f.deny("extra", message, "leave it out", param=plain)


_CHECKS: tuple[Callable[[Fitting], None], ...] = (
    _model,
    _quality,
    _size,
    _n,
    _output_format,
    _partial_images,
    _main_model,
    _max_output_tokens,
    _prompt,
    _input_images,
    _extra,
)


def forced(request: ImageRequest, *, whole: bool = False) -> Fitting:
    """What holds on every surface whatever its policy says: `moderation` is `auto`.

    `whole`: answers are looked at before they are released, so nobody gets to see a part of one, or pays for it.
    """
    fitting = Fitting(_NO_RULES, request, "enforce")
    if whole and request.partial_images:
        fitting.adjust("partial_images", 0)
    if request.moderation not in (None, AUTO):
        fitting.adjust("moderation", AUTO)
    return fitting


_NO_RULES = RequestRules()
