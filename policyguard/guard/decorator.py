"""The decorator door: `@guard.enforce("avatars", constants={...})` on a function that makes images.

The function's arguments are named like the API's. What the policy decides is put into them before the function runs;
what the function does beyond its arguments cannot be seen, so the record says that `moderation` is declared, not
forced, unless it is an argument.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Collection, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from policyguard.decision import Admitted, Reason, Refused, Released, refused_error
from policyguard.errors import ConfigError, InvalidRequest
from policyguard.flow.ask import AskOptions
from policyguard.flow.drive import adrive, drive
from policyguard.flow.reasons import unreadable_reason
from policyguard.guard.arguments import OPAQUE, problems
from policyguard.guard.files import read_image
from policyguard.guard.leg import LiveLeg
from policyguard.guard.offer import Offer, admission, caller_within, current_offer, looks
from policyguard.guard.returned import ImagesOf, Restore, output_of, restored
from policyguard.guard.steps import Admit, GuardStep, Reject, aperform, perform
from policyguard.guard.surface import check_surface
from policyguard.request import AUTO, Failure, ImageRequest, InputImage, Operation, Outcome, Output
from policyguard.text.suggest import known_names
from policyguard.wire.outcome import digests, plain_word
from policyguard.wire.parameters import DECIDED, KNOWN, decided
from policyguard.wire.usage import usage_from

if TYPE_CHECKING:
    from policyguard.guard.guard import Guard

P = ParamSpec("P")
R = TypeVar("R")
_DOOR = "decorator"
_PICTURES = ("image", "mask")
_BOUND = ("self", "cls")
_BYPASSES = frozenset({"extra_body", "extra_query", "messages"})
_OFTEN_OBJECTS = frozenset({"user", "safety_identifier"})  # an app's own user object is none of the API's parameters
_NOT_GIVEN = frozenset({"NotGiven", "Omit"})  # the SDK's marks for what is not given, without importing it
UsageOf = Callable[[Any], Any]


def enforce(
    guard: Guard,
    surface: str,
    *,
    constants: Mapping[str, str | int] | None = None,
    fields: Mapping[str, str] | None = None,
    usage: UsageOf | None = None,
    images: ImagesOf | None = None,
    restore: Restore | None = None,
    not_sent: Collection[str] = (),
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """See `Guard.enforce`. Raises `ConfigError` for a function of which not every parameter is known."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if isinstance(function, classmethod | staticmethod):
            raise ConfigError("put `@guard.enforce(...)` below `@classmethod` or `@staticmethod`")
        signature = inspect.signature(function)
        named = dict(constants or {}), dict(fields or {})
        door = _DecoratedFunction(guard, surface, *named, usage, signature, images, restore, not_sent)
        door.check(function)
        if inspect.iscoroutinefunction(function):
            return cast(Callable[P, R], _guard_async(door, function))
        return _guard_sync(door, function)

    return decorate


@dataclass(frozen=True, slots=True)
class _RunFunction:
    """Run the function, as a part of the request. Answer: what it returns."""

    leg: LiveLeg
    start: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class _LivesOn:
    """What a plain function gave to be awaited: it ends when that ends."""

    leg: LiveLeg
    result: Awaitable[Any]


_DecoratorStep = _RunFunction | GuardStep
_DecoratorSteps = Generator[_DecoratorStep, Any, Any]


def _guard_sync(door: _DecoratedFunction, function: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        result = drive(_guarded(door, function, door.bind(args, kwargs)), partial(_perform, door.guard))
        return cast(R, _awaited(door, result) if isinstance(result, _LivesOn) else result)

    return guarded


def _guard_async(door: _DecoratedFunction, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        return await adrive(_guarded(door, function, door.bind(args, kwargs)), partial(_aperform, door.guard))

    return guarded


async def _awaited(door: _DecoratedFunction, living: _LivesOn) -> Any:
    steps = _run(door, _RunFunction(living.leg, lambda: living.result))
    return await adrive(steps, partial(_aperform, door.guard))


def _perform(guard: Guard, step: _DecoratorStep) -> Any:
    if not isinstance(step, _RunFunction):
        return perform(guard, step)
    with step.leg.within():
        result = step.start()
    return _LivesOn(step.leg, result) if inspect.isawaitable(result) else result


async def _aperform(guard: Guard, step: _DecoratorStep) -> Any:
    if not isinstance(step, _RunFunction):
        return await aperform(guard, step)
    with step.leg.within():
        return await step.start()


def _guarded(door: _DecoratedFunction, function: Callable[..., Any], call: inspect.BoundArguments) -> _DecoratorSteps:
    """One call of the function: decided, run, and ended."""
    offer = yield from _begin(door, call)
    if isinstance(offer, Released):
        return door.restored(offer)
    leg = LiveLeg(door.guard, offer.admitted, looks=door.looks(offer), offer=offer)
    return (yield from _run(door, _RunFunction(leg, lambda: function(*call.args, **call.kwargs))))


def _run(door: _DecoratedFunction, step: _RunFunction) -> _DecoratorSteps:
    """The function from its start to the end of its leg: what it returns, unless that was refused."""
    leg = step.leg
    try:
        result = yield step
        if isinstance(result, _LivesOn):
            return result
        outcome = door.outcome(result)
    except Exception as error:
        yield from leg.ending(_failed(error))
        raise
    except BaseException:
        yield from leg.ending(Outcome(failure=Failure.CANCELLED))
        raise
    said = yield from leg.ending(outcome, door.output(result) if leg.looks else None)
    if said is not None and leg.holds_back:
        raise refused_error(said)
    return result


def _begin(door: _DecoratedFunction, call: inspect.BoundArguments) -> Generator[GuardStep, Any, Offer | Released]:
    """Decide the call and put what was decided into its arguments; or what was approved. Raises `PolicyRefused`."""
    around = current_offer(door.guard)
    caller = caller_within(around)
    try:
        request = door.request(call)
    except InvalidRequest as error:
        rejected: Refused = yield Reject(error, door.surface, caller, _DOOR)
        raise refused_error(rejected) from None
    unseen = door.unseen()
    if unseen is not None:
        refused: Refused = yield Reject(unseen, door.surface, caller, _DOOR)
        raise refused_error(refused)
    said = yield from admission(around, Admit(request, caller, door.surface, door.options))
    if isinstance(said, Released):
        return said
    if not isinstance(said, Admitted):
        raise refused_error(said)
    door.force(call, said)
    return Offer(door.guard, said, caller, around=around)


def _failed(error: Exception) -> Outcome:
    """A function that raised may have been billed all the same: never definite."""
    status = getattr(error, "status_code", None)
    timeout = isinstance(error, TimeoutError | asyncio.TimeoutError) or "Timeout" in type(error).__name__
    return Outcome(
        failure=Failure.TIMEOUT if timeout else Failure.ERROR,
        status=status if type(status) is int else None,  # an exception of somebody else's can have anything there
        error_code=plain_word(getattr(error, "code", None)),
        request_id=plain_word(getattr(error, "request_id", None)),
    )


@dataclass(frozen=True, slots=True)
class _DecoratedFunction:
    """One decorated function: where its parameters are."""

    guard: Guard
    surface: str
    constants: dict[str, str | int]
    fields: dict[str, str]
    usage: UsageOf | None
    signature: inspect.Signature
    images: ImagesOf | None
    restore: Restore | None
    not_sent: Collection[str]

    @property
    def options(self) -> AskOptions:
        """What the guard has to know of this door: a constant cannot be changed, so it is not adjusted either."""
        return {
            "door": _DOOR,
            "forced": self._argument("moderation") in self.signature.parameters,
            "fixed": frozenset(self.constants),
            "sends": True,
        }

    def _argument(self, parameter: str) -> str:
        return self.fields.get(parameter, parameter)

    # ---- at decoration ----------------------------------------------------------------------------------------

    def check(self, function: Callable[..., Any]) -> None:
        name = getattr(function, "__qualname__", "the function")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigError(f"`{name}` is a generator; guard the function that makes the images")
        self._check_arguments(name)
        check_surface(self.guard.policies, self.surface)
        parameters = self.signature.parameters
        for parameter in self.fields:
            if self._argument(parameter) not in parameters:
                raise ConfigError(f"`{name}` has no argument `{self._argument(parameter)}`")
        if self._argument("prompt") not in parameters:
            raise ConfigError(f"`{name}` has no argument `prompt`; name it with fields={{'prompt': 'your_name'}}")
        for parameter in DECIDED:
            if self._argument(parameter) not in parameters and parameter not in self.constants:
                raise ConfigError(
                    f"it is not known which {parameter} `{name}` uses: make it an argument, or declare it with "
                    f"constants={{'{parameter}': ...}}"
                )
        self._check_constants()
        self._check_not_sent(name)
        self._check_output(name)

    def _check_output(self, name: str) -> None:
        policy = self.guard.policies.surfaces[self.surface]
        if policy.inspects_output and self.images is None:
            raise ConfigError(
                f"`{self.surface}` has output images looked at, and it is not known where `{name}` returns them: "
                "say it with images=..., like images=lambda result: [image.b64_json for image in result.data]"
            )
        if policy.may_hold_output and self.restore is None:
            raise ConfigError(
                f"`{self.surface}` can hold output for a review, and it is not known what `{name}` returns then: say "
                "it with restore=..., which makes it of the approved images, a list of bytes"
            )

    def _check_arguments(self, name: str) -> None:
        """Everything that can carry a parameter has a name of its own, or it would go past the policy."""
        for argument in self.signature.parameters.values():
            if argument.kind in (argument.VAR_KEYWORD, argument.VAR_POSITIONAL):
                raise ConfigError(f"`{name}` takes any argument (`*{argument.name}`): name those that it has")
            if argument.name in _BYPASSES:
                raise ConfigError(f"`{name}` has the argument `{argument.name}`, which goes past the policy")

    def _check_constants(self) -> None:
        for parameter, value in self.constants.items():
            if parameter not in KNOWN or parameter == "prompt":
                raise ConfigError(f"`{parameter}` can be no constant")
            if parameter == "moderation" and value != AUTO:
                raise ConfigError("`moderation` is `auto`, always")
        given: dict[str, Any] = {"prompt": "a prompt", **self.constants}
        try:
            ImageRequest(**given)
        except InvalidRequest as error:
            raise ConfigError(f"a constant is not possible: {error.message}") from None

    def _check_not_sent(self, name: str) -> None:
        """What is declared to stay here is an argument, and none that the policy reads."""
        others = [argument for argument in self.signature.parameters if argument not in self._read()]
        for argument in [self.not_sent] if isinstance(self.not_sent, str) else self.not_sent:
            if argument in self._read():
                raise ConfigError(f"`{argument}` is what the policy reads, so it cannot be declared with `not_sent`")
            if isinstance(self.not_sent, str) or argument not in others:
                hint = f"write a list of names; {known_names(argument, others)}"
                raise ConfigError(f"`not_sent` names no argument of `{name}`: {hint}")

    def _read(self) -> set[str]:
        """The arguments that the policy sees."""
        return {self._argument(parameter) for parameter in (*KNOWN, *_PICTURES)}

    # ---- at a call --------------------------------------------------------------------------------------------

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        call = self.signature.bind(*args, **kwargs)
        call.apply_defaults()
        return call

    def request(self, call: inspect.BoundArguments) -> ImageRequest:
        """What the arguments and constants ask for. Raises `InvalidRequest`."""
        values: dict[str, Any] = dict(self.constants)
        for parameter in KNOWN:
            value = call.arguments.get(self._argument(parameter))
            if _is_given(value) and (isinstance(value, str) or parameter not in _OFTEN_OBJECTS):
                values[parameter] = str.__str__(value) if isinstance(value, str) else value
        if "prompt" not in values:
            raise InvalidRequest("`prompt` must be a text that is not empty", param="prompt")
        if values.get("stream") is True:
            raise InvalidRequest("a stream ends after the function has, so it cannot be settled here", param="stream")
        images = self._images(call, "image")
        masks = self._images(call, "mask")
        self._check_others(call)
        operation: Operation = "edit" if images else "generate"
        return ImageRequest(**values, operation=operation, images=images, mask=masks[0] if masks else None)

    def _check_others(self, call: inspect.BoundArguments) -> None:
        """A picture or a parameter in an argument of another name would go past moderation and past the price."""
        seen, objects = self._read(), {self._argument(name) for name in _OFTEN_OBJECTS}
        bound = next(iter(self.signature.parameters), None)
        for name, value in call.arguments.items():
            is_seen = name in seen and (name not in objects or isinstance(value, str))
            if is_seen or name in self.not_sent or (name == bound and name in _BOUND) or not _is_given(value):
                continue
            own = name in objects or value is self.signature.parameters[name].default
            found = next((what for what in problems(value) if what != OPAQUE or not own), None)
            if found is not None:
                raise InvalidRequest(
                    f"`{name}` holds {found}, and the policy does not see it: if nothing of it is sent, declare it "
                    f"with `not_sent=['{name}']`",
                    param=name,
                )

    def _images(self, call: inspect.BoundArguments, parameter: str) -> tuple[InputImage, ...]:
        """The images, whose arguments become bytes that can be read again by the function."""
        name = self._argument(parameter)
        given = call.arguments.get(name)
        if not _is_given(given):
            return ()
        listed = given if isinstance(given, list) else [given]
        images = [read_image(item, parameter) for item in listed]
        sendable = [(image.filename or f"{parameter}.png", image.data, image.media_type) for image in images]
        call.arguments[name] = sendable if isinstance(given, list) else sendable[0]
        return tuple(images)

    def force(self, call: inspect.BoundArguments, admitted: Admitted) -> None:
        """Put what was decided into the arguments."""
        forced = decided(admitted.request)
        forced |= {"moderation": AUTO, "safety_identifier": admitted.ticket.safety_identifier}
        for parameter, value in forced.items():
            name = self._argument(parameter)
            if value is not None and name in self.signature.parameters:
                call.arguments[name] = value

    # ---- what it returns --------------------------------------------------------------------------------------

    def unseen(self) -> Reason | None:
        """Why what it makes could not be looked at, since the policies were loaded anew."""
        policy = self.guard.policies.surfaces.get(self.surface)
        if policy is None or not (
            (policy.inspects_output and self.images is None) or (policy.may_hold_output and self.restore is None)
        ):
            return None
        return unreadable_reason()

    def looks(self, offer: Offer) -> bool:
        return self.images is not None and looks(offer.around, offer.ticket)

    def output(self, result: Any) -> Output:
        return output_of(result, self.images or (lambda _: ()))

    def restored(self, released: Released) -> Any:
        if self.restore is None:
            raise ConfigError("an answer was released, and there is no `restore` to make it of")
        return restored(released, self.restore)

    def outcome(self, result: Any) -> Outcome:
        usage = usage_from(self.usage(result) if self.usage else _in(result, "usage"))
        return Outcome(
            status=200,
            usage=usage,
            failure=None if usage else Failure.NO_USAGE,
            request_id=plain_word(_in(result, "_request_id")),
            size=plain_word(_in(result, "size")),
            quality=plain_word(_in(result, "quality")),
            image_digests=_digests(result),
        )


def _is_given(value: Any) -> bool:
    return value is not None and type(value).__name__ not in _NOT_GIVEN


def _in(result: Any, name: str) -> Any:
    return result.get(name) if isinstance(result, Mapping) else getattr(result, name, None)


def _digests(result: Any) -> tuple[str, ...]:
    data = _in(result, "data")
    return digests(_in(image, "b64_json") for image in data) if isinstance(data, list | tuple) else ()
