"""`policyguard explain`: one request against a surface: every rule, threshold, price and budget, with its place.

It shows what the engine says and adds no reason of its own.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import typer

from policyguard.cli.explain_stages import show_stages
from policyguard.cli.output import (
    FormatOption,
    NowOption,
    PoliciesOption,
    console,
    dollars,
    fail,
    moment,
    print_json,
    print_rows,
)
from policyguard.engine.callers import resolve_caller
from policyguard.settings import setting


def explain(
    surface: Annotated[str, typer.Argument(help="The surface.")],
    prompt: Annotated[str, typer.Option(help="The prompt.")] = "a cat",
    prompt_chars: Annotated[int | None, typer.Option(min=1, max=32_000, help="A prompt of that length.")] = None,
    model: Annotated[str | None, typer.Option(help="The model; without it the policy's default.")] = None,
    size: Annotated[str | None, typer.Option(help="`auto` or like `1024x1536`.")] = None,
    quality: Annotated[str | None, typer.Option(help="low, medium, high, xhigh, max or auto.")] = None,
    n: Annotated[int | None, typer.Option(help="How many images.")] = None,
    background: Annotated[str | None, typer.Option(help="transparent, opaque or auto.")] = None,
    output_format: Annotated[str | None, typer.Option(help="png, webp or jpeg.")] = None,
    partial_images: Annotated[int | None, typer.Option(help="Partial images of a stream.")] = None,
    input_images: Annotated[int, typer.Option(min=0, max=16, help="Small input images: an edit.")] = 0,
    mask: Annotated[bool, typer.Option("--mask", help="With a mask.")] = False,
    main_model: Annotated[
        str | None, typer.Option(help="By the tool of the Responses API: the model that asks for the images.")
    ] = None,
    max_output_tokens: Annotated[int | None, typer.Option(min=1, help="What that model may write.")] = None,
    caller: Annotated[list[str] | None, typer.Option(help="A caller value, NAME=VALUE. Repeatable.")] = None,
    score: Annotated[list[str] | None, typer.Option(help="A score, CATEGORY=0.42. Others are 0. Repeatable.")] = None,
    output_score: Annotated[
        list[str] | None, typer.Option(help="A score of what comes out, CATEGORY=0.42. Others are 0. Repeatable.")
    ] = None,
    answer: Annotated[
        list[str] | None, typer.Option(help="The answer to a question, NAME=0.8. Others are 0. Repeatable.")
    ] = None,
    unavailable: Annotated[bool, typer.Option(help="As if moderation were down.")] = False,
    now: NowOption = None,
    stages: Annotated[
        bool, typer.Option("--stages", help="Instead: when each check runs, and what decides without moderation.")
    ] = False,
    policies: PoliciesOption = None,
    format: FormatOption = "text",
) -> None:
    """Show how a request would be decided, and why. Nothing is sent, moderated or recorded.

    Examples:

      policyguard explain avatars --quality high --caller user=u1 --caller tier=free

      policyguard explain marketing --caller user=u1 --size 2048x2048 --score violence=0.42

      policyguard explain avatars --caller user=u1 --output-score sexual=0.35

      policyguard explain id-photos --caller user=u1 --unavailable --format json

      policyguard explain marketing --caller user=u1 --answer real_person=0.9

      policyguard explain avatars --caller user=u1 --main-model gpt-6-luna --max-output-tokens 500

      policyguard explain avatars --stages
    """
    from policyguard.policy.load import load
    from policyguard.request import Caller

    loaded = load(setting("policies", policies) or "policies")
    if surface not in loaded.surfaces:
        fail(f"there is no surface `{surface}`", hint="there are " + ", ".join(f"`{s}`" for s in loaded.surfaces))
    if stages:
        show_stages(loaded, surface, as_json=format == "json")
        return
    names = {"model": model, "size": size, "quality": quality, "n": n}
    names |= {"background": background, "output_format": output_format, "partial_images": partial_images}
    names |= {"max_output_tokens": max_output_tokens}
    request = _request("x" * prompt_chars if prompt_chars else prompt, input_images, mask, main_model, names)
    given = Caller.of(_callers(loaded, caller or []))
    scores, answers = _scores(score or [], unavailable), _answers(loaded.surfaces[surface], answer or [])
    shown = _explain(loaded, surface, request, given, (scores, answers, _output(output_score or [])), moment(now))
    if format == "json":
        print_json(shown)
    else:
        _print(shown)


def _request(prompt: str, input_images: int, mask: bool, main_model: str | None, names: dict[str, Any]) -> Any:
    """Images of a few bytes stand for real ones, and the prompt for all that a main model reads."""
    from policyguard.request import ImageRequest, InputImage, MainModel

    picture = InputImage(bytes(8), "image/png")
    return ImageRequest(
        prompt=prompt,
        operation="edit" if input_images else "generate",
        images=(picture,) * input_images,
        mask=picture if mask else None,
        main=MainModel(main_model, len(prompt.encode()), "") if main_model else None,
        **names,
    )


def _explain(
    loaded: Any, surface: str, request: Any, given: Any, said: tuple[Any, Any, Any], now: datetime
) -> dict[str, Any]:
    from policyguard.decision import combine
    from policyguard.engine import decide
    from policyguard.engine.explain import explain as lines
    from policyguard.flow import rows
    from policyguard.request import Verdict

    (scores, answers, output), policy = said, loaded.surfaces[surface]
    caller, reasons = resolve_caller(loaded.caller, given)
    screened = decide.price(decide.screen(policy, request, caller, now)).after(reasons)
    verdict = None
    if screened.check_prompt or screened.check_images:
        error = "down" if scores is None else None
        verdict = Verdict(model=policy.moderation.model, scores=scores or {}, error=error)
    judged = decide.judge(screened, verdict, answers)
    dimensions = rows.dimensions(surface, caller, lambda kind, text: text)
    seen = output if policy.checks_output else None
    reasons = judged.reasons
    if policy.inspects_output and combine(reasons).word in ("allow", "flag"):
        reasons += decide.inspect(policy, judged.request, caller, now, verdict, answers, seen)
    return {
        "surface": surface,
        "outcome": combine(reasons).word,
        "digest": policy.digest,
        "mode": policy.mode,
        "request": rows.parameters(judged.request),
        "adjusted": [str(a) for a in judged.adjustments],
        "ceiling_micros": judged.quote.ceiling_micros if judged.quote else None,
        "reasons": [rows.reason_row(r) for r in reasons],
        "lines": [
            {**asdict(line), "place": str(line.place) if line.place else None}
            for line in lines(judged, verdict, dimensions, answers, seen)
        ],
    }


def _callers(loaded: Any, given: list[str]) -> dict[str, str | None]:
    """What is not declared does not count, as in the guard; who typed it should know."""
    from policyguard.text.suggest import known_names

    pairs, declared = _pairs(given, "--caller"), [field.name for field in loaded.caller]
    for name in pairs:
        if name not in declared:
            note = f"note: org.yaml declares no `caller.{name}`, so it does not count; {known_names(name, declared)}"
            console(stderr=True).print(note)
    return pairs


def _pairs(given: list[str], option: str) -> dict[str, str | None]:
    pairs: dict[str, str | None] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            fail(f"`{option} {text}` is not NAME=VALUE")
        pairs[name] = value
    return pairs


def _scores(given: list[str], unavailable: bool) -> dict[str, float] | None:
    from policyguard.request import CATEGORIES

    if unavailable:
        return None
    return _numbers(given, "--score", CATEGORIES, "moderation category")


def _output(given: list[str]) -> Any:
    """What moderation says of the images that come out."""
    from policyguard.request import IMAGE_CATEGORIES, Verdict

    return Verdict(model="", scores=_numbers(given, "--output-score", IMAGE_CATEGORIES, "moderation category"))


def _answers(policy: Any, given: list[str]) -> Any:
    from policyguard.request import Answers

    names = tuple(question.name for question in policy.questions)
    return Answers(model="given", probabilities=_numbers(given, "--answer", names, "question that a rule reads"))


def _numbers(given: list[str], option: str, names: tuple[str, ...], what: str) -> dict[str, float]:
    """A number from 0 to 1 for each name, 0 where none is given; what is `unavailable` is not there."""
    numbers = dict.fromkeys(names, 0.0)
    for name, value in _pairs(given, option).items():
        if name not in names:
            fail(f"`{name}` is no {what}", hint=f"there are {', '.join(names)}" if names else "there are none here")
        if value == "unavailable":
            del numbers[name]
            continue
        try:
            numbers[name] = float(value or "")
        except ValueError:
            fail(f"`{option} {name}=...` needs a number from 0 to 1")
        if not 0 <= numbers[name] <= 1:
            fail(f"`{option} {name}=...` needs a number from 0 to 1")
    return numbers


def _print(answer: dict[str, Any]) -> None:
    out = console()
    mode = ", in shadow: recorded, not enforced" if answer["mode"] == "shadow" else ""
    out.print(f"{answer['surface']}: {answer['outcome']}{mode}")
    parameters = ", ".join(f"{name} {value}" for name, value in answer["request"].items())
    out.print(f"upstream would get: {parameters}")
    if answer["adjusted"]:
        out.print("adjusted: " + ", ".join(answer["adjusted"]))
    out.print(f"costs at most {dollars(answer['ceiling_micros'])}")
    out.print()
    shown = [line for line in answer["lines"] if line["result"] != "passes"]
    print_rows(out, [(_cells(line), _below(line)) for line in shown])
    passed = len(answer["lines"]) - len(shown)
    if passed:
        out.print()
        out.print(f"{passed} moderation thresholds pass (--format json lists them)")


def _cells(line: dict[str, Any]) -> tuple[str, ...]:
    return line["stage"], line["what"], line["result"], _effect(line)


def _below(line: dict[str, Any]) -> str:
    return ": ".join(part for part in (line["place"], line["detail"]) if part)


def _effect(line: dict[str, Any]) -> str:
    return f"{line['effect']} (shadow)" if line["mode"] == "shadow" else str(line["effect"])
