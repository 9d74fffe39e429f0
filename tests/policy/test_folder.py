"""A folder of files: what is read, what only looks like a policy, and that every file's problems come in one run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import CLEAN, ORG, SURFACE, write_policies

from policyguard.policy.load import check, load

OTHER = SURFACE.replace("surface: avatars", "surface: other").replace("/v1/", "/v2/")


def codes(folder: Path) -> list[tuple[str, str]]:
    return [(Path(p.file).name, p.code) for p in check(folder)]


def test_hidden_files_other_endings_and_subfolders_are_not_policies(tmp_path: Path) -> None:
    write_policies(tmp_path, avatars=SURFACE)
    for name in (".draft.yaml", "notes.txt", "avatars.yaml.bak", "tests/avatars.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no: [")
    assert sorted(load(tmp_path).surfaces) == ["avatars"]


def test_both_endings_are_read_in_either_case(tmp_path: Path) -> None:
    write_policies(tmp_path, avatars=SURFACE)
    (tmp_path / "other.YML").write_text(OTHER)
    assert sorted(load(tmp_path).surfaces) == ["avatars", "other"]


def test_a_link_out_of_the_folder_is_followed_and_a_broken_one_is_a_problem(tmp_path: Path) -> None:
    folder = write_policies(tmp_path / "policies", avatars=SURFACE)
    (tmp_path / "elsewhere.yaml").write_text(OTHER)
    (folder / "other.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    assert sorted(load(folder).surfaces) == ["avatars", "other"]
    (tmp_path / "elsewhere.yaml").unlink()
    assert codes(folder) == [("other.yaml", "PG101")]


def test_a_pipe_is_a_problem_and_is_never_waited_for(tmp_path: Path) -> None:
    write_policies(tmp_path, avatars=SURFACE)
    os.mkfifo(tmp_path / "pipe.yaml")
    assert codes(tmp_path) == [("pipe.yaml", "PG101")]


def test_without_an_organisation_the_form_of_every_surface_is_still_checked(tmp_path: Path) -> None:
    write_policies(tmp_path, avatars=SURFACE + "modes: shadow\n", other="a: [\n")
    (tmp_path / "org.yaml").unlink()
    assert codes(tmp_path) == [("avatars.yaml", "PG201"), ("org.yaml", "PG501"), ("other.yaml", "PG102")]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    write_policies(tmp_path, avatars=SURFACE)
    assert codes(tmp_path / "org.yaml") == [("org.yaml", "PG101")]


def test_a_document_that_is_no_mapping_is_one_problem(tmp_path: Path) -> None:
    write_policies(tmp_path, avatars=SURFACE, list="- a\n", word="hello\n", nothing="~\n")
    assert codes(tmp_path) == [("list.yaml", "PG203"), ("nothing.yaml", "PG203"), ("word.yaml", "PG203")]


def test_a_key_that_is_there_twice_hides_no_other_problem(tmp_path: Path) -> None:
    write_policies(tmp_path, avatars=SURFACE + "title: b\nrules: [{id: a, when: reqest.n > 1, then: deny}]\n")
    assert [(p.code, p.line) for p in check(tmp_path)] == [("PG103", 13), ("PG402", 14)]


def test_ids_are_one_name_for_one_thing(tmp_path: Path) -> None:
    row = "{id: a, when: request.n > 1, then: flag}"
    write_policies(tmp_path, org=f"{ORG}rules: [{row}, {row}]\n", avatars=f"{SURFACE}rules: [{row}]\n")
    assert codes(tmp_path) == [("avatars.yaml", "PG207"), ("org.yaml", "PG207")]


def test_mistakes_in_defaults_for_reviews_are_said_once_and_in_their_file(tmp_path: Path) -> None:
    review = "  review: {reviewers: [group:trsut], expires: 1h, escalate: [{after: 2h, to: [group:trust]}]}\n"
    write_policies(tmp_path, org=ORG + review, avatars=SURFACE, other=OTHER)
    found = [(Path(p.file).name, p.code, p.path) for p in check(tmp_path)]
    assert found == [
        ("org.yaml", "PG206", "defaults.review.reviewers[0]"),
        ("org.yaml", "PG208", "defaults.review.escalate[0].after"),
    ]


def test_a_shorter_deadline_is_blamed_where_a_default_escalates_after_it(tmp_path: Path) -> None:
    org = ORG + "  review: {reviewers: [group:trust], expires: 4h, escalate: [{after: 2h, to: [group:oncall]}]}\n"
    write_policies(tmp_path, org=org, avatars=SURFACE + "review: {expires: 1h}\n")
    found = [(Path(p.file).name, p.code, p.path) for p in check(tmp_path)]
    assert found == [("avatars.yaml", "PG208", "review.expires")]


@pytest.mark.parametrize(
    ("sooner", "later"),
    # As texts each pair stands in the other order.
    [("24h", "100h"), ("24h", "7d"), ("100s", "30m"), ("90m", "8h"), ("9h", "10h"), ("3600s", "2h")],
)
def test_an_escalation_is_before_the_deadline_by_time_not_as_text(tmp_path: Path, sooner: str, later: str) -> None:
    def found(after: str, expires: str) -> list[tuple[str, str]]:
        step = f"escalate: [{{after: {after}, to: [group:oncall]}}]"
        review = f"review: {{reviewers: [group:trust], expires: {expires}, {step}}}\n"
        write_policies(tmp_path, avatars=SURFACE + review)
        return codes(tmp_path)

    assert found(sooner, later) == []
    assert found(later, sooner) == [("avatars.yaml", "PG208")]
    assert found(sooner, sooner) == [("avatars.yaml", "PG208")]  # at the deadline it is too late to ask anybody


def test_escalations_come_in_the_order_of_time_not_as_text(tmp_path: Path) -> None:
    steps = "[{after: 10h, to: [b@example.com]}, {after: 9h, to: [a@example.com]}, {after: 30m, to: [c@example.com]}]"
    review = f"review: {{reviewers: [group:trust], expires: 1d, escalate: {steps}}}\n"
    write_policies(tmp_path, avatars=SURFACE + review)
    (policy,) = load(tmp_path).surfaces.values()
    assert [step.to for step in policy.review.escalate] == [("c@example.com",), ("a@example.com",), ("b@example.com",)]


def test_high_stakes_need_reviewers_and_moderation_needs_something_to_look_at(tmp_path: Path) -> None:
    high = SURFACE.replace("stakes: low", "stakes: high")
    write_policies(tmp_path, avatars=high, other=OTHER + "moderation: {check: []}\n")
    assert codes(tmp_path) == [("avatars.yaml", "PG209"), ("other.yaml", "PG208")]


def test_a_value_with_a_default_is_never_required(tmp_path: Path) -> None:
    org = ORG.replace("required: true", "required: true, default: nobody")
    write_policies(tmp_path, org=org, avatars=SURFACE)
    assert codes(tmp_path) == [("org.yaml", "PG208")]


@pytest.mark.parametrize("name", ["org.yml", "Org.yaml", "ORG.YAML"])
def test_a_misnamed_org_yaml_is_one_problem_that_says_how_it_is_called(tmp_path: Path, name: str) -> None:
    write_policies(tmp_path, avatars=SURFACE)
    (tmp_path / "org.yaml").rename(tmp_path / name)
    (found,) = check(tmp_path)
    assert (found.code, found.hint) == ("PG501", f"rename `{name}`")


@pytest.mark.parametrize("below", ["teams", "teams/europe"])
def test_a_policy_in_a_folder_below_is_a_problem_and_not_a_surface_less(tmp_path: Path, below: str) -> None:
    write_policies(tmp_path, avatars=CLEAN)
    file = tmp_path / below / "banners.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(SURFACE.replace("avatars", "banners").replace("/v1/", "/b/v1/"))
    assert [(p.code, p.file) for p in check(tmp_path)] == [("PG506", str(file))]


def test_tests_and_hidden_folders_are_left_alone(tmp_path: Path) -> None:
    write_policies(tmp_path, avatars=CLEAN)
    for below in ("tests", ".drafts", "..2026_11_24"):
        (tmp_path / below).mkdir()
        (tmp_path / below / "banners.yaml").write_text("not: a policy")
    assert check(tmp_path) == []
