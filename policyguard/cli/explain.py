"""`policyguard explain`: one request against a surface: every rule, threshold, price and budget, with its place.

The decision is the one that `policyguard test` has of the same case; nothing is decided here.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

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
from policyguard.settings import setting

if TYPE_CHECKING:
    from policyguard.policy.model import Policy, PolicySet
    from policyguard.request import ImageRequest
    from policyguard.testing.simulate import Case


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
    from policyguard.request import CATEGORIES, IMAGE_CATEGORIES, Caller
    from policyguard.testing.simulate import Case

    loaded = load(setting("policies", policies) or "policies")
    if surface not in loaded.surfaces:
        fail(f"there is no surface `{surface}`", hint="there are " + ", ".join(f"`{s}`" for s in loaded.surfaces))
    if stages:
        show_stages(loaded, surface, as_json=format == "json")
        return
    names = {"model": model, "size": size, "quality": quality, "n": n}
    names |= {"background": background, "output_format": output_format, "partial_images": partial_images}
    names |= {"max_output_tokens": max_output_tokens}
    case = Case(
        request=_request("x" * prompt_chars if prompt_chars else prompt, input_images, mask, main_model, names),
        caller=Caller.of(_callers(loaded, caller or [])),
        scores=dict.fromkeys(CATEGORIES) if unavailable else _numbers(score or [], "--score", CATEGORIES),
        output=_numbers(output_score or [], "--output-score", IMAGE_CATEGORIES),
        answers=_answers(loaded.surfaces[surface], answer or []),
        now=moment(now),
    )
    shown = explained(loaded, surface, case)
    if format == "json":
        print_json(shown)
    else:
        _print(shown)


def _request(prompt: str, input_images: int, mask: bool, main_model: str | None, names: dict[str, Any]) -> ImageRequest:
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


def explained(policies: PolicySet, surface: str, case: Case) -> dict[str, Any]:
    """How a case is decided, and every line that speaks of it, also those behind a refusal."""
    from policyguard.engine import decide
    from policyguard.engine.explain import explain as lines
    from policyguard.flow import rows
    from policyguard.testing.simulate import assessed, output_verdict, screened, simulate

    policy, before = policies.surfaces[surface], screened(policies, surface, case)
    decision = simulate(policies, surface, case).decision
    verdict, answers = assessed(before, case)
    judged, output = decide.judge(before, verdict, answers), output_verdict(policy, case)
    dimensions = rows.dimensions(surface, before.caller, lambda kind, text: text)
    return {
        "surface": surface,
        "outcome": decision.effect.word,
        "digest": policy.digest,
        "mode": policy.mode,
        "request": rows.parameters(before.request),
        "adjusted": [str(a) for a in before.adjustments],
        "ceiling_micros": before.quote.ceiling_micros if before.quote else None,
        "reasons": [rows.reason_row(r) for r in decision.reasons],
        "lines": [
            {**asdict(line), "place": str(line.place) if line.place else None}
            for line in lines(judged, verdict, dimensions, answers, output)
        ],
    }


def _callers(loaded: PolicySet, given: list[str]) -> dict[str, str | None]:
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


def _answers(policy: Policy, given: list[str]) -> dict[str, float | None]:
    names = tuple(question.name for question in policy.questions)
    return _numbers(given, "--answer", names, "question that a rule reads")


def _numbers(
    given: list[str], option: str, names: tuple[str, ...], what: str = "moderation category"
) -> dict[str, float | None]:
    """A number from 0 to 1 for each name, 0 where none is given; None is what is `unavailable`."""
    numbers: dict[str, float | None] = dict.fromkeys(names, 0.0)
    for name, value in _pairs(given, option).items():
        if name not in names:
            fail(f"`{name}` is no {what}", hint=f"there are {', '.join(names)}" if names else "there are none here")
        numbers[name] = None if value == "unavailable" else _number(value or "", f"`{option} {name}=...`")
    return numbers


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number <= 1:  # what is no number is not, either
        fail(f"{where} needs a number from 0 to 1")
    return number


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
