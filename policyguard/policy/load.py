"""A folder to a `PolicySet`: reads `org.yaml` and one file for each surface, and reports every problem of all of them.

The only module of the policy language that touches files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ValidationError

from policyguard.decision import Effect, Place
from policyguard.errors import Diagnostic, PolicyError
from policyguard.policy import compile as compiling
from policyguard.policy import limits as limiting
from policyguard.policy.compile import Shared, digest, place
from policyguard.policy.diagnostics import report
from policyguard.policy.document import Organisation, Surface
from policyguard.policy.model import Budget, ModerationRules, Policy, PolicySet, Rule
from policyguard.policy.pending import report_pending
from policyguard.policy.routes import claimed_twice, routes
from policyguard.policy.source import Source, read

ORG = "org.yaml"


def load(folder: str | Path, *, now: datetime | None = None) -> PolicySet:
    """The policies of `folder`. Raises `PolicyError` with all diagnostics of all files.

    `now` is only kept as `loaded_at`.
    """
    policies, problems = _load(Path(folder), now)
    if problems or policies is None:
        raise PolicyError(problems)
    return policies


def check(folder: str | Path) -> list[Diagnostic]:
    """Every problem of a folder, by file and line; none where it loads."""
    return sorted(_load(Path(folder), None)[1])


def _load(folder: Path, now: datetime | None) -> tuple[PolicySet | None, list[Diagnostic]]:
    org = _document(folder / ORG, Organisation)
    if org is None:
        hint = "`policyguard init` writes a folder to start from"
        return None, [_file(folder / ORG, "PG501", "there is no org.yaml", hint)]
    files = [path for path in sorted(_files(folder)) if path.name != ORG]
    sources = [source for path in files if (source := _document(path, Surface)) is not None]
    if not files:
        org.problems.append(_file(folder / ORG, "PG502", "there is no surface beside org.yaml"))
    if org.data is None:  # without the organisation no surface has a meaning
        return None, [p for source in (org, *sources) for p in source.problems]
    policies = _set(folder, org, [s for s in sources if s.data is not None], now)
    return policies, [p for source in (org, *sources) for p in source.problems]


def _files(folder: Path) -> Iterable[Path]:
    return (p for p in folder.iterdir() if p.suffix in (".yaml", ".yml") and not p.name.startswith(".") and p.is_file())


def _file(path: Path, code: str, message: str, hint: str = "") -> Diagnostic:
    return Diagnostic(file=str(path), line=1, column=1, code=code, message=message, hint=hint)


def _document(path: Path, model: type[BaseModel]) -> Source | None:
    """One file, read and checked for its form; `data` is None where it has no form. None where it is not there."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        source = Source(str(path), "")
        source.problem((), "PG101", f"the file cannot be read: {error.strerror}")
        return source
    source = read(str(path), raw)
    if source.problems:
        return source
    if not isinstance(source.data, dict):
        source.problem((), "PG203", "a policy is keys and values")
        source.data = None
        return source
    report_pending(source)
    try:
        model.model_validate(source.data)
    except ValidationError as error:
        report(source, model, error)
        source.data = None
    return source


# ---- the set ----------------------------------------------------------------------------------------------


def _set(folder: Path, org: Source, sources: list[Source], now: datetime | None) -> PolicySet:
    shared = compiling.shared(org)
    proxies = compiling.trusted_proxies(org)
    org_rules = compiling.rules(org, shared.environment, organisation=True)
    org_budgets = compiling.budgets(org, shared.caller, "org")
    defaults = limiting.leaves(org, ("defaults",), named=True)
    compiling.check_request(org, compiling.request_rules(defaults), defaults)
    surfaces: dict[str, Policy] = {}
    by_name: dict[str, Source] = {}
    for source in sources:
        name = source.data["surface"]
        if name in surfaces:
            source.problem(("surface",), "PG503", f"the surface `{name}` is there already ({surfaces[name].place})")
            continue
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
    high = source.data["stakes"] == "high"
    parts = ["limits", "high_stakes"] if high else ["limits"]
    limit = limiting.together([limiting.leaves(org, (part,)) for part in parts])
    values = limiting.effective(source, limiting.leaves(org, ("defaults",)), limit)
    request = compiling.request_rules(values)
    compiling.check_request(source, request, values)
    review = compiling.review_rules(source, values, shared.groups)
    moderation = _moderation(source, values, limit)
    own_rules = compiling.rules(source, shared.environment, organisation=False)
    _unique(source, "rules", [rule.id for rule in org_rules], org.file)
    _unique(source, "budgets", [budget.id for budget in org_budgets], org.file)
    policy = Policy(
        surface=source.data["surface"],
        title=source.data["title"],
        owner=source.data["owner"],
        stakes=source.data["stakes"],
        mode=source.data.get("mode", "enforce"),
        place=place(source, ("surface",)),
        digest="",
        request=request,
        limits=compiling.request_rules(limit, limits=True),
        moderation=moderation,
        limit_moderation=_limit_moderation(source, limit, moderation),
        rules=(*org_rules, *own_rules),
        exempt=compiling.exemptions(source, shared.environment),
        budgets=tuple(
            sorted(
                (*org_budgets, *compiling.budgets(source, shared.caller, source.data["surface"])),
                key=lambda b: b.identity,
            )
        ),
        review=review,
        audit=compiling.audit_rules(values),
        routes=routes(source, request),
        limit_review=bool(leaf.value) if (leaf := limit.get(("review", "required"))) else False,
        reasons_on_wire=source.data.get("reasons_on_wire", True),
    )
    _check_reviewers(source, policy)
    return policy


def _moderation(source: Source, values: limiting.Leaves, limit: limiting.Leaves) -> ModerationRules:
    deny = limiting.thresholds(source, values, limit, "deny_at", compiling.DENY_AT)
    review = limiting.thresholds(source, values, limit, "review_at", None)
    return compiling.moderation_rules(source, values, deny, review)


def _limit_moderation(source: Source, limit: limiting.Leaves, effective: ModerationRules) -> ModerationRules:
    """The organisation's part alone, with the surface's model."""
    deny = limiting.thresholds(source, limit, limit, "deny_at", None)
    review = limiting.thresholds(source, limit, limit, "review_at", None)
    alone = compiling.moderation_rules(source, {("moderation", "check"): _NO_CHECK, **limit}, deny, review)
    return replace(alone, model=effective.model, timeout_s=effective.timeout_s)


_NO_CHECK = limiting.Leaf([], Place("", 1))


def _unique(source: Source, section: str, taken: list[str], org_file: str) -> None:
    seen = dict.fromkeys(taken, org_file)
    for index, row in enumerate(source.data.get(section) or []):
        id_ = row["id"]
        if id_ in seen:
            source.problem((section, index, "id"), "PG207", f"`{id_}` is an id already, in {seen[id_]}")
        seen[id_] = source.file


def _check_reviewers(source: Source, policy: Policy) -> None:
    """Where something can be held, somebody must be there to decide it."""
    review = policy.review
    if not _can_hold(policy):
        return
    if not review.reviewers:
        hint = "write `review: {reviewers: [group:NAME]}`"
        source.problem(("review",), "PG209", "requests of this surface can be held, and it has no reviewers", hint)
    elif len(set(review.reviewers)) < review.approvals:
        message = f"{review.approvals} approvals are needed, and there are {len(set(review.reviewers))} reviewers"
        source.problem(("review",), "PG208", message)


def _can_hold(policy: Policy) -> bool:
    return (
        policy.review.required
        or bool(policy.moderation.review_at)
        or policy.moderation.when_unavailable is Effect.REVIEW
        or any(rule.then is Effect.REVIEW for rule in policy.rules)
    )
