"""Policies of a git revision: read as git keeps them, or refused in plain words."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support import SURFACE, write_policies

from policyguard.diff.revisions import extract
from policyguard.errors import ConfigError


def git(folder: Path, *arguments: str) -> None:
    names = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *names, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits: `one` with n up to 2, `two` with n up to 4 and a link beside the policies."""
    top = tmp_path / "top"
    write_policies(top / "policies", avatars=SURFACE)
    git(top, "init", "-q", "-b", "main")
    git(top, "add", ".")
    git(top, "commit", "-qm", "one")
    git(top, "tag", "one")
    write_policies(top / "policies", avatars=SURFACE.replace("max: 2", "max: 4"))
    git(top, "commit", "-qam", "two")
    git(top, "tag", "two")
    return top


def test_a_revision_has_the_files_of_its_time_whatever_the_working_tree_says(repository: Path, tmp_path: Path) -> None:
    (repository / "policies" / "avatars.yaml").write_text("broken: [")
    found = extract("one", repository / "policies", tmp_path / "here")
    assert sorted(path.name for path in found.iterdir()) == ["avatars.yaml", "org.yaml"]
    assert (found / "avatars.yaml").read_text() == SURFACE
    assert "max: 4" in (extract("two", repository / "policies", tmp_path / "there") / "avatars.yaml").read_text()


def test_a_folder_that_the_working_tree_no_longer_has_is_found(repository: Path, tmp_path: Path) -> None:
    git(repository, "rm", "-rq", "policies")
    assert (extract("one", repository / "policies", tmp_path / "here") / "org.yaml").is_file()


def test_the_top_folder_itself_can_hold_policies(tmp_path: Path) -> None:
    top = write_policies(tmp_path / "top", avatars=SURFACE)
    git(top, "init", "-q")
    git(top, "add", ".")
    git(top, "commit", "-qm", "one")
    assert (extract("HEAD", top, tmp_path / "here") / "org.yaml").is_file()


def test_attributes_of_the_repository_hide_no_surface(repository: Path, tmp_path: Path) -> None:
    (repository / "policies" / ".gitattributes").write_text("avatars.yaml export-ignore\n")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "three")
    assert (extract("HEAD", repository / "policies", tmp_path / "here") / "avatars.yaml").is_file()


def test_a_link_is_refused_and_never_followed(repository: Path, tmp_path: Path) -> None:
    os.symlink("/etc/hostname", repository / "policies" / "extra.yaml")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "three")
    with pytest.raises(ConfigError, match=r"`extra\.yaml` of `HEAD` is a link"):
        extract("HEAD", repository / "policies", tmp_path / "here")


@pytest.mark.parametrize("revision", ["--output=x", "-p", "--upload-pack=touch x"])
def test_options_are_no_revisions(repository: Path, tmp_path: Path, revision: str) -> None:
    with pytest.raises(ConfigError, match="is no git revision"):
        extract(revision, repository / "policies", tmp_path / "here")
    assert not (repository / "x").exists()


@pytest.mark.parametrize("revision", ["nowhere", "one two", "one; touch x", "$(touch x)", "", "one:policies"])
def test_what_is_neither_folder_nor_revision_says_so(repository: Path, tmp_path: Path, revision: str) -> None:
    with pytest.raises(ConfigError, match="there is no folder and no git revision"):
        extract(revision, repository / "policies", tmp_path / "here")
    assert not (repository / "x").exists()


def test_a_revision_without_the_folder_says_so(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`one` has no folder `other`"):
        extract("one", repository / "other", tmp_path / "here")


def test_outside_of_a_work_tree_git_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="git: fatal: not a git repository"):
        extract("main", tmp_path, tmp_path / "here")


def test_without_git_folders_can_be_compared(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="git is not installed, and a revision needs it; compare two folders"):
        extract("one", repository / "policies", tmp_path / "here")
