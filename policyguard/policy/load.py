"""A folder to a `PolicySet`: reads `org.yaml` and one file for each surface, and reports every problem of all of them.

The only module of the policy language that touches files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ValidationError

from policyguard.decision import Effect
from policyguard.errors import Diagnostic, PolicyError
from policyguard.policy import compile as compiling
from policyguard.policy import limits as limiting
from policyguard.policy.compile import Shared, place
from policyguard.policy.diagnostics import report
from policyguard.policy.document import Organisation, Surface
from policyguard.policy.limits import Effective
from policyguard.policy.lint import lint
from policyguard.policy.meaning import digest
from policyguard.policy.model import Budget, Policy, PolicySet, Rule
from policyguard.policy.parameters import check_request, request_rules
from policyguard.policy.pending import report_empty, report_pending
from policyguard.policy.routes import claimed_twice, routes
from policyguard.policy.source import MAX_BYTES, Source, TooManyProblems, read
from policyguard.policy.source import Path as KeyPath

ORG = "org.yaml"


def load(folder: str | Path, *, now: datetime | None = None) -> PolicySet:
    """The policies of `folder`. Raises `PolicyError` with all diagnostics of all files.

    `now` is only kept as `loaded_at`.
    """
    policies, problems = _load(Path(folder), now)
    if policies is None or any(problem.severity == "error" for problem in problems):
        raise PolicyError(problems)
    return policies


def check(folder: str | Path, *, today: date | None = None) -> list[Diagnostic]:
    """Every problem of a folder, by file and line; none where it loads. `today` is needed to find what has expired."""
    return sorted(_load(Path(folder), None, partial(lint, today=today))[1])


def _load(
    folder: Path, now: datetime | None, warn: Callable[[PolicySet, Source, list[Source]], None] | None = None
) -> tuple[PolicySet | None, list[Diagnostic]]:
    try:
        files = sorted(_files(folder))
    except OSError as error:
        hint = "`policyguard init` writes a folder to start from"
        return None, [_file(folder, "PG101", f"the folder cannot be read: {_why(error)}", hint)]
    sources = [_document(path, Surface) for path in files if path.name != ORG]
    found = folder / ORG in files
    org = _document(folder / ORG, Organisation) if found else _no_organisation(folder)
    if found and not sources:
        org.problems.append(_file(folder / ORG, "PG502", "there is no surface beside org.yaml"))
    policies = None
    with suppress(TooManyProblems):  # of the organisation: without it no surface has a meaning
        if org.data is not None:
            policies = _set(folder, org, [source for source in sources if source.data is not None], now)
            for source in sources:
                compiling.conditions(source, policies.caller)
            if warn is not None and not any(source.problems for source in (org, *sources)):
                warn(policies, org, sources)
    return policies, list({problem: None for source in (org, *sources) for problem in source.problems})


def _files(folder: Path) -> Iterable[Path]:
    """Every policy, and what only looks like one: a broken link or a pipe is a problem, never a surface less."""
    return (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in (".yaml", ".yml") and not path.name.startswith(".") and not path.is_dir()
    )


def _no_organisation(folder: Path) -> Source:
    source = Source(str(folder / ORG), "")
    hint = "`policyguard init` writes a folder to start from"
    source.problem((), "PG501", "there is no org.yaml", hint)
    return source


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
        if path.exists() and not path.is_file():
            raise OSError(None, "it is no plain file")
        with path.open("rb") as file:
            return read(str(path), file.read(MAX_BYTES + 1))
    except OSError as error:
        source = Source(str(path), "")
        source.problem((), "PG101", f"the file cannot be read: {_why(error)}")
        return source


# ---- the set ----------------------------------------------------------------------------------------------


def _set(folder: Path, org: Source, sources: list[Source], now: datetime | None) -> PolicySet:
    shared = compiling.shared(org)
    proxies = compiling.trusted_proxies(org)
    org_rules = compiling.rules(org, shared.environment, organisation=True)
    org_budgets = compiling.budgets(org, shared.caller, "org")
    _unique(org, "rules", {})
    _unique(org, "budgets", {})
    for part in ("defaults", "limits", "high_stakes"):
        check_request(limiting.Effective(org, org, limiting.leaves(org, (part,)), {}))
    compiling.review_rules(limiting.Effective(org, org, limiting.defaults(org), {}), shared.groups)
    surfaces: dict[str, Policy] = {}
    by_name: dict[str, Source] = {}
    for source in sources:
        name = source.data["surface"]
        if name in surfaces:
            source.problem(("surface",), "PG503", f"the surface `{name}` is there already ({surfaces[name].place})")
            continue
        with suppress(TooManyProblems):
            surfaces[name] = _surface(source, org, shared, org_rules, org_budgets)
            by_name[name] = source
    claimed_twice(by_name, {name: policy.routes for name, policy in surfaces.items()})
    identity = (shared.caller, [str(p) for p in proxies])
    finished = {name: replace(p, digest=digest((p, identity))) for name, p in sorted(surfaces.items())}
    return PolicySet(
        organisation=org.data["organisation"],
        folder=str(folder),
        digest=digest({name: policy.digest for name, policy in finished.items()}),
        loaded_at=now,
        caller=shared.caller,
        trusted_proxies=proxies,
        groups=shared.groups,
        surfaces=finished,
    )


def _surface(
    source: Source, org: Source, shared: Shared, org_rules: tuple[Rule, ...], org_budgets: tuple[Budget, ...]
) -> Policy:
    parts = ["limits", "high_stakes"] if source.data["stakes"] == "high" else ["limits"]
    found = limiting.effective(source, org, limiting.limits(org, *parts))
    check_request(found)
    request, moderation = request_rules(found.values), compiling.moderation_rules(found)
    own_rules = compiling.rules(source, shared.environment, organisation=False)
    _unique(source, "rules", _ids(org, "rules"))
    _unique(source, "budgets", _ids(org, "budgets"))
    policy = Policy(
        surface=source.data["surface"],
        title=source.data["title"],
        owner=source.data["owner"],
        stakes=source.data["stakes"],
        mode=source.data.get("mode", "enforce"),
        place=place(source, ("surface",)),
        digest="",
        request=request,
        limits=request_rules(found.limit, limits=True),
        moderation=moderation,
        limit_moderation=compiling.limit_moderation(found, moderation),
        rules=(*org_rules, *own_rules),
        exempt=compiling.exemptions(source, shared.environment),
        budgets=tuple(
            sorted(
                (*org_budgets, *compiling.budgets(source, shared.caller, source.data["surface"])),
                key=lambda b: b.identity,
            )
        ),
        review=compiling.review_rules(found, shared.groups),
        audit=compiling.audit_rules(found.values),
        routes=routes(source, request),
        limit_review=bool(leaf.value) if (leaf := found.limit.get(("review", "required"))) else False,
        reasons_on_wire=source.data.get("reasons_on_wire", True),
    )
    _check_reviewers(found, policy, shared.groups)
    return policy


def _ids(source: Source, section: str) -> dict[str, str]:
    return {row["id"]: str(place(source, (section, i))) for i, row in enumerate(source.data.get(section) or [])}


def _unique(source: Source, section: str, taken: Mapping[str, str]) -> None:
    """Ids are names in refusals, reports and the record: each is there once, the organisation's included."""
    seen = dict(taken)
    for index, row in enumerate(source.data.get(section) or []):
        path = (section, index, "id")
        if row["id"] in seen:
            source.problem(path, "PG207", f"`{row['id']}` is an id already ({seen[row['id']]})")
        seen.setdefault(row["id"], str(place(source, path)))


def _check_reviewers(found: Effective, policy: Policy, groups: Mapping[str, tuple[str, ...]]) -> None:
    """Where something can be held, somebody must be there to decide it."""
    review, source = policy.review, found.source
    holds = next(_holding(found, policy), None)
    named = found.value("review", "reviewers") or ()
    if holds is None or any(name.startswith("group:") and name[6:] not in groups for name in named):
        return  # an unknown group is a problem already, and may be all that is wrong
    where = ("review",) if ("review",) in source.values else holds
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
    reviewing = [i for i, row in enumerate(found.source.data.get("rules") or ()) if row["then"] == "review"]
    yield from (("rules", i, "then") for i in reviewing)
    if policy.review.required or any(rule.then is Effect.REVIEW for rule in policy.rules):
        yield ("surface",)
