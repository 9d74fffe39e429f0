"""A folder to a `PolicySet`: reads `org.yaml` and one file for each surface, and reports every problem of all of them.

The only module of the policy language that touches files.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from policyguard.decision import Effect
from policyguard.errors import Diagnostic, PolicyError
from policyguard.policy import compile as compiling
from policyguard.policy import limits as limiting
from policyguard.policy.assessed import check_assessed, check_model
from policyguard.policy.compile import Shared, unique_ids
from policyguard.policy.diagnostics import report
from policyguard.policy.document import Organisation, Surface
from policyguard.policy.limits import Effective
from policyguard.policy.lint.lint import Progress, lint
from policyguard.policy.meaning import digest, digest_of_all
from policyguard.policy.model import Policy, PolicySet
from policyguard.policy.output import check_output
from policyguard.policy.parameters import check_request, request_rules
from policyguard.policy.pending import report_empty, report_pending
from policyguard.policy.prices import FILE, Prices, book_of, matters
from policyguard.policy.questions import names_in, questions, read_by, with_questions
from policyguard.policy.routes import Claims, claim, routes
from policyguard.policy.source import MAX_BYTES, Source, TooManyProblems, read
from policyguard.policy.source import YAMLPath as KeyPath
from policyguard.pricing import PriceBook

ORG, PRICES, TESTS = "org.yaml", FILE, "tests"


# Without waiting for who writes into a pipe; flags that a system does not have are 0.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
Stamp = tuple[int, ...]
Stamps = Mapping[str, Stamp | None]


@dataclass(frozen=True, slots=True)
class Origin:
    """What a set came from, so that the next one need not read and compile again what is still the same.

    `shared` None: the organisation does not load. `files` has the policy of each file, `surfaces` each by its name.
    """

    stamps: dict[str, Stamp | None]
    org: Source
    prices: Source | None
    shared: Shared | None
    files: dict[str, Policy]
    surfaces: dict[str, Policy]
    claimed: Claims


def load(
    folder: str | Path, *, now: datetime | None = None, previous: PolicySet | None = None, stamps: Stamps | None = None
) -> PolicySet:
    """The policies of `folder`. Raises `PolicyError` with all diagnostics of all files.

    `now` is only kept as `loaded_at`. `previous` is an earlier set of the same folder: files whose stamps are the same
    are not read again. `stamps` are what `look` saw, where it looked already.
    """
    with _uncollected():
        loaded = _load(Path(folder), now, previous, stamps)
    if loaded.policies is None or any(problem.severity == "error" for problem in loaded.problems):
        raise PolicyError(loaded.problems)
    return loaded.policies


def check(folder: str | Path, *, today: date | None = None) -> list[Diagnostic]:
    """Every problem of a folder, by file and line; none where it loads. `today` is needed to find what has expired."""
    return checked(folder, today=today).problems


def checked(folder: str | Path, *, today: date | None = None, progress: Progress | None = None) -> Loaded:
    """What `check` finds, and the policies themselves, which are in force only where no problem is an error.

    `progress` hears of how many surfaces the warnings are looked for, which takes nearly all of the time.
    """
    loaded = _load(Path(folder), warn=partial(lint, today=today, progress=progress))
    return Loaded(loaded.policies, sorted(loaded.problems))


def prices_of(folder: str | Path) -> PriceBook:
    """The prices of a folder alone; the packaged ones where it has none. Raises `PolicyError`."""
    path = Path(folder) / PRICES
    source = _document(path, Prices) if path.exists() else None
    book = book_of(source)
    if source is not None and source.problems:
        raise PolicyError(source.problems)
    return book


def stamps_of(folder: Path) -> Stamps:
    """What tells one version of each policy file from another, by name; nothing is opened. Raises OSError.

    What only looks like a policy is there, too: a broken link or a pipe is a problem, never a surface less. So are the
    files in folders below, but those of tests and hidden ones: nobody should think that they are read.
    """
    found: dict[str, Stamp | None] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_named_so(entry.name) and not entry.is_dir():
                found[entry.name] = _stamp(entry)
            elif entry.name != TESTS and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):
                    found |= {f"{entry.name}/{name}": stamp for name, stamp in stamps_of(folder / entry.name).items()}
    return found


def _is_named_so(name: str) -> bool:
    return name.lower().endswith((".yaml", ".yml"))


def _stamp(entry: os.DirEntry[str]) -> Stamp | None:
    try:
        return stamp(entry.stat())
    except OSError:  # a broken link: reading it says so
        return None


def stamp(found: os.stat_result) -> Stamp:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@contextmanager
def _uncollected() -> Iterator[None]:
    """Nothing that loading makes is garbage before it ends, and looking for some takes as long as loading."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Loaded(NamedTuple):
    policies: PolicySet | None
    problems: list[Diagnostic]


def _load(
    folder: Path,
    now: datetime | None = None,
    previous: PolicySet | None = None,
    stamps: Stamps | None = None,
    warn: Callable[[PolicySet, Source, list[Source]], None] | None = None,
) -> Loaded:
    try:
        stamps = stamps_of(folder) if stamps is None else stamps
    except OSError as error:
        hint = "`policyguard init` writes a folder to start from"
        return Loaded(None, [_file(folder, "PG101", f"the folder cannot be read: {_why(error)}", hint)])
    unchanged = _unchanged(folder, previous, stamps)
    misplaced = dict(_misplaced(folder, stamps.keys() - unchanged.stamps.keys() if unchanged else stamps))
    if ORG not in stamps and any(problem.code == "PG501" for problem in misplaced.values()):
        return Loaded(None, list(misplaced.values()))
    base = unchanged or _organisation(folder, stamps)
    sources, problems = [], list(misplaced.values())
    for name in sorted(stamps.keys() - base.stamps.keys() - misplaced.keys()):
        source = _document(folder / name, Surface)
        with suppress(TooManyProblems):
            _add(source, base)
        problems += source.problems
        if warn is not None:  # else it is forgotten: a folder may have thousands
            sources.append(source)
    policies = _set(folder, replace(base, stamps=dict(stamps)), now)
    if warn is not None and policies is not None and not problems and not base.org.problems:
        with suppress(TooManyProblems):
            warn(policies, base.org, sources)
        problems = [problem for source in sources for problem in source.problems]
    priced = base.prices.problems if base.prices else ()
    return Loaded(policies, list(dict.fromkeys((*base.org.problems, *priced, *problems))))


def _misplaced(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, Diagnostic]]:
    """Files that are not what their place or name says: surfaces in a folder below, an organisation by another name."""
    for name in names:
        if "/" in name:
            hint = f"move it to `{folder}`, or let the name of its folder begin with a dot"
            yield name, _file(folder / name, "PG506", "a policy in a folder below is not read", hint)
        elif name != ORG and name.lower() in (ORG, "org.yml"):
            yield name, _file(folder / name, "PG501", f"the organisation's file is called `{ORG}`", f"rename `{name}`")


def _why(error: OSError) -> str:
    return (error.strerror or "unknown").lower()


def _file(path: Path, code: str, message: str, hint: str = "") -> Diagnostic:
    return Diagnostic(file=str(path), line=1, column=1, code=code, message=message, hint=hint)


def _document(path: Path, model: type[BaseModel]) -> Source:
    """One file, read and checked for its form; `data` is None where it has no form."""
    source = _read(path)
    if any(problem.code != "PG103" for problem in source.problems):  # a key twice hides nothing else
        source.data = None
    if source.data is None:
        if not source.problems:
            source.problem((), "PG203", "a policy is keys and values")
        return source
    if not isinstance(source.data, dict):
        source.problem((), "PG203", "a policy is keys and values")
        source.data = None
        return source
    try:
        _check_form(source, model)
    except TooManyProblems:
        source.data = None
    return source


def _check_form(source: Source, model: type[BaseModel]) -> None:
    report_pending(source)
    empty = report_empty(source)
    compiling.check_length(source)
    try:
        model.model_validate(source.data)
    except ValidationError as error:
        source.data, source.formless = None, source.data
        report(source, model, error, empty)


def _read(path: Path) -> Source:
    try:
        return read(str(path), _bytes(path))
    except OSError as error:
        source = Source(str(path), "")
        source.problem((), "PG101", f"the file cannot be read: {_why(error)}")
        return source


def _bytes(path: Path) -> bytes:
    """Up to one byte more than a policy may have."""
    file = os.open(path, _READ)
    try:
        if not S_ISREG(os.fstat(file).st_mode):
            raise OSError(None, "it is no plain file")
        found = chunk = os.read(file, MAX_BYTES + 1)
        while chunk and len(found) <= MAX_BYTES:
            chunk = os.read(file, MAX_BYTES + 1 - len(found))
            found += chunk
        return found
    finally:
        os.close(file)


# ---- the set ----------------------------------------------------------------------------------------------


def _organisation(folder: Path, stamps: Stamps) -> Origin:
    """The organisation alone."""
    org, shared = _no_organisation(folder), None
    prices = _document(folder / PRICES, Prices) if PRICES in stamps else None
    if ORG in stamps:
        org = _document(folder / ORG, Organisation)
        if stamps.keys() <= {ORG, PRICES}:
            org.problems.append(_file(folder / ORG, "PG502", "there is no surface beside org.yaml"))
    if org.data is not None:
        with suppress(TooManyProblems):
            shared = _shared(org, book_of(prices))
    return Origin({name: stamps.get(name) for name in (ORG, PRICES)}, org, prices, shared, {}, {}, {})


def _shared(org: Source, prices: PriceBook) -> Shared:
    shared = compiling.shared(org, prices)
    for part in ("defaults", "limits", "high_stakes"):
        check_request(limiting.Effective(org, org, limiting.leaves(org, (part,)), {}), prices)
    defaults = limiting.Effective(org, org, shared.defaults, {})
    check_model(defaults)
    compiling.review_rules(defaults, shared.groups)
    return shared


def _no_organisation(folder: Path) -> Source:
    source = Source(str(folder / ORG), "")
    source.problem((), "PG501", "there is no org.yaml", "`policyguard init` writes a folder to start from")
    return source


def _unchanged(folder: Path, previous: PolicySet | None, stamps: Stamps) -> Origin | None:
    """What the files that are still the same gave to an earlier set; None where the organisation changed."""
    if previous is None or previous.folder != str(folder):
        return None
    origin: Origin = previous.origin
    if any(origin.stamps.get(name) != stamps.get(name) for name in (ORG, PRICES)):
        return None
    gone = {name for name, stamp in origin.stamps.items() if stamp is None or stamps.get(name) != stamp}
    base = Origin(
        stamps=dict(origin.stamps),
        org=replace(origin.org, problems=[]),
        prices=origin.prices,
        shared=origin.shared,
        files=dict(origin.files),
        surfaces=dict(origin.surfaces),
        claimed=dict(origin.claimed),
    )
    for name in gone & base.files.keys():
        del base.stamps[name]
        policy = base.files.pop(name)
        del base.surfaces[policy.surface]
        for route in policy.routes:
            del base.claimed[route.method, route.path]
    return base


def _add(source: Source, base: Origin) -> None:
    """Compile one surface into `base`."""
    if base.shared is None:  # without the organisation no surface has a meaning
        return
    if source.data is None:
        compiling.conditions(source, with_questions(base.shared.environment, names_in(source.formless)))
        return
    name = source.data["surface"]
    if name in base.surfaces:
        there = base.surfaces[name].place
        source.problem(("surface",), "PG503", f"the surface `{name}` is there already ({there})")
        return
    policy = _surface(source, base.org, base.shared)
    base.files[Path(source.file).name] = base.surfaces[name] = policy
    claim(source, policy.routes, base.claimed)


def _set(folder: Path, origin: Origin, now: datetime | None) -> PolicySet | None:
    shared = origin.shared
    if shared is None:
        return None
    return PolicySet(
        organisation=origin.org.data["organisation"],
        folder=str(folder),
        digest=digest_of_all({name: policy.digest for name, policy in origin.surfaces.items()}),
        loaded_at=now,
        caller=shared.caller,
        trusted_proxies=shared.trusted_proxies,
        groups=shared.groups,
        surfaces={name: origin.surfaces[name] for name in sorted(origin.surfaces)},
        prices=shared.prices,
        origin=origin,
    )


def _surface(source: Source, org: Source, shared: Shared) -> Policy:
    bounds = shared.bounds[source.data["stakes"]]
    found = limiting.effective(source, org, shared.defaults, bounds.leaves)
    check_request(found, shared.prices)
    check_model(found)
    request, moderation = request_rules(found.values, shared.prices), compiling.moderation_rules(found)
    unique_ids(source, "rules", shared.rule_ids)
    unique_ids(source, "budgets", shared.budget_ids)
    asked = questions(source, shared.questions)
    environment = with_questions(shared.environment, asked)
    rules = (*shared.rules, *compiling.rules(source, environment, organisation=False))
    exempt = compiling.exemptions(source, environment)
    own_budgets = compiling.budgets(source, shared.caller, source.data["surface"])
    meaning: dict[str, Any] = {
        "surface": source.data["surface"],
        "title": source.data["title"],
        "owner": source.data["owner"],
        "stakes": source.data["stakes"],
        "mode": source.data.get("mode", "enforce"),
        "place": source.place(("surface",)),
        "request": request,
        "moderation": moderation,
        "rules": rules,
        "exempt": exempt,
        "budgets": tuple(sorted((*shared.budgets, *own_budgets), key=lambda b: b.identity)),
        "review": compiling.review_rules(found, shared.groups),
        "audit": compiling.audit_rules(found.values),
        "routes": routes(source, request),
        "limit_review": bool(leaf.value) if (leaf := found.limit.get(("review", "required"))) else False,
        "limit_hold_output": (leaf := found.limit.get(("review", "hold"))) is not None and leaf.value == "output",
        "reasons_on_wire": source.data.get("reasons_on_wire", True),
    }
    own = matters(request)
    read = read_by({**shared.questions, **asked}, rules, exempt)
    policy = Policy(
        **meaning,
        limits=bounds.request,
        limit_moderation=compiling.limit_moderation(bounds, moderation),
        questions=read,
        digest=digest({**meaning, **_if_any(questions=read, own_prices=own), "organisation": bounds.digest}),
    )
    _check_reviewers(found, policy, shared.groups)
    check_assessed(found, policy)
    check_output(found, policy)
    return policy


def _if_any(**meaning: Any) -> dict[str, Any]:
    """What most policies do not have, and what then changes no digest."""
    return {name: value for name, value in meaning.items() if value}


def _check_reviewers(found: Effective, policy: Policy, groups: Mapping[str, tuple[str, ...]]) -> None:
    """Where something can be held, somebody must be there to decide it."""
    review, source = policy.review, found.source
    holds = next(_holding(found, policy), None)
    named = found.value("review", "reviewers") or ()
    if holds is None or any(name.startswith("group:") and name[6:] not in groups for name in named):
        return  # an unknown group is a problem already, and may be all that is wrong
    where = ("review",) if "review" in source.data else holds
    people = len(set(review.reviewers))
    if not people:
        hint = "write `review: {reviewers: [group:NAME]}`"
        source.problem(where, "PG209", "requests of this surface can be held, and it has no reviewers", hint)
    elif people < review.approvals:
        counted = "there is 1 reviewer" if people == 1 else f"there are {people} reviewers"
        source.problem(where, "PG208", f"{review.approvals} approvals are needed, and {counted}")


def _holding(found: Effective, policy: Policy) -> Iterator[KeyPath]:
    """What can hold a request, where the surface's own file says it, else where it begins."""
    if policy.stakes == "high":
        yield ("stakes",)
    if policy.moderation.review_at:
        yield ("moderation", "review_at")
    if policy.moderation.when_unavailable is Effect.REVIEW:
        yield ("moderation", "when_unavailable")
    if policy.review.hold_output:
        hold = found.get("review", "hold")
        yield ("review", "hold") if hold is not None and hold.named else ("surface",)
    if any(question.when_unavailable is Effect.REVIEW for question in policy.questions):
        yield ("questions",) if "questions" in found.source.data else ("surface",)
    reviewing = [i for i, row in enumerate(found.source.data.get("rules") or ()) if row["then"] == "review"]
    yield from (("rules", i, "then") for i in reviewing)
    if policy.review.required or any(rule.then is Effect.REVIEW for rule in policy.rules):
        yield ("surface",)
