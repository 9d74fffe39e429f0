"""Which moderation models there are, and what each of them assesses: what installed distributions declare.

An entry point of the group `policyguard.moderators` has the name of a model, and leads to what makes its moderator:
something that has `assesses` and is called without arguments. So every model is known without an import, only what a
policy names is imported, and one that is broken is nobody else's problem. Nothing is made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple, Protocol

from policyguard.request import CATEGORIES, IMAGE_CATEGORIES
from policyguard.text.suggest import known_names, shown

GROUP = "policyguard.moderators"
DEFAULT_MODEL = "omni-moderation-latest"
_POSSIBLE: Mapping[str, tuple[str, ...]] = {"prompt": CATEGORIES, "images": IMAGE_CATEGORIES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Assesses:
    """The categories that a moderator scores in a prompt, and in each picture. What is not in here is never fine.

    Raises ValueError for a category that policyguard does not have.
    """

    prompt: AbstractSet[str] = frozenset(CATEGORIES)
    images: AbstractSet[str] = frozenset()

    def __post_init__(self) -> None:
        for field in fields(self):
            given: AbstractSet[str] = getattr(self, field.name)
            for name in sorted(set(given).difference(_POSSIBLE[field.name])):
                hint = known_names(name, _POSSIBLE[field.name])
                raise ValueError(f"{shown(name)} is no category of `{field.name}`: {hint}")
            object.__setattr__(self, field.name, frozenset(given))

    def missing(self, *, prompt: bool, images: bool) -> frozenset[str]:
        """What should be assessed in these kinds of input, and is not."""
        of_prompt = frozenset(CATEGORIES) - self.prompt if prompt else frozenset()
        return of_prompt | (frozenset(IMAGE_CATEGORIES) - self.images if images else frozenset())


class Declaration(Protocol):
    """What an entry point leads to, for example the class of a moderator."""

    @property
    def assesses(self) -> Assesses: ...

    def __call__(self) -> Any:
        """The moderator."""


@dataclass(frozen=True, slots=True)
class LazyModels:
    """A declaration whose code is imported when the moderator is made, because that takes long."""

    assesses: Assesses
    made_by: str

    def __call__(self) -> Any:
        module, _, name = self.made_by.partition(":")
        return getattr(import_module(module), name)()


OPENAI_ASSESSES = Assesses(images=frozenset(IMAGE_CATEGORIES))
OPENAI = LazyModels(OPENAI_ASSESSES, "policyguard.moderation.openai:OpenAIModerator")
KEYWORD = LazyModels(Assesses(), "policyguard.moderation.keyword:KeywordModerator")
# Ours are entry points like all others, but written here: a source tree without metadata has them, too.
_OURS = tuple(
    EntryPoint(name=model, value=f"{__name__}:{made_by}", group=GROUP)
    for model, made_by in {
        DEFAULT_MODEL: "OPENAI",
        "omni-moderation-2024-09-26": "OPENAI",
        "keyword": "KEYWORD",
    }.items()
)


class Unusable(NamedTuple):
    """Why a model cannot be used."""

    code: str
    message: str
    hint: str = ""


@cache
def installed() -> Mapping[str, tuple[EntryPoint, ...]]:
    """The entry points by model. More than one of a model is a mistake."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in (*_OURS, *sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, distribution(entry)))):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def distribution(entry: EntryPoint) -> str:
    """Who declares it."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "policyguard"


@cache
def declared(model: str) -> Declaration | Unusable:
    """What is declared of a model. Imports what its entry point names."""
    entries = installed().get(model, ())
    if not entries:
        hint = known_names(model, installed())
        return Unusable("PG204", f"no installed moderator declares the model {shown(model)}", hint)
    if len(entries) > 1:
        who = " and ".join(f"`{distribution(entry)}`" for entry in entries)
        return Unusable("PG508", f"{shown(model)} is declared by {who}", "uninstall all but one of them")
    return _loaded(entries[0])


def _loaded(entry: EntryPoint) -> Declaration | Unusable:
    where = f"`{entry.value}` of the distribution `{distribution(entry)}`"
    try:
        found: Declaration = entry.load()
    except (Exception, SystemExit) as error:  # a script that was taken for a module ends the process
        message = f"the moderator of {shown(entry.name)} cannot be imported: {where}"
        return Unusable("PG508", message, shown(str(error)) if isinstance(error, ImportError | ValueError) else "")
    if not callable(found) or not isinstance(getattr(found, "assesses", None), Assesses):
        message = f"the moderator of {shown(entry.name)} does not declare what it assesses: {where}"
        return Unusable("PG508", message, "it needs `assesses = Assesses(...)`")
    return found


def assessed(model: str) -> Assesses:
    """What a model assesses; of one that cannot be used nothing is missed, because that is reported already."""
    found = declared(model)
    return OPENAI_ASSESSES if isinstance(found, Unusable) else found.assesses
