"""A folder that is edited while a guard runs: what is seen, when it is read, and which set is in force."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from patience import HANGS_S, until
from policy.mounted import Mounted, put
from support import NOW, ORG, SURFACE, write_policies

from policyguard.errors import ConfigError, Diagnostic, PolicyError
from policyguard.policy import watch as watching
from policyguard.policy.load import load
from policyguard.policy.watch import NOTHING, Fingerprint, Looks, ReloadState, Watch, changed, every_s, read

STRICT = SURFACE.replace("max: 2", "max: 1")
BROKEN = SURFACE + "moderaton: {}\n"


def rested(looks: Looks) -> list[str]:
    """What two looks in a row report."""
    return looks.look() or looks.look() or []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_policies(tmp_path / "policies", avatars=SURFACE)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> Any:
        return self.now


# ---- what is seen -----------------------------------------------------------------------------------------


def rewrite(folder: Path) -> None:
    (folder / "avatars.yaml").write_text(STRICT)


def rewrite_unnoticed(folder: Path) -> None:
    """Another text of the same size, with the old time: `rsync --times`, or a clock that was set back."""
    file = folder / "avatars.yaml"
    before = file.stat()
    file.write_text(STRICT)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size


def rename_over(folder: Path) -> None:
    put(folder / "avatars.yaml", STRICT)


def remove(folder: Path) -> None:
    (folder / "avatars.yaml").unlink()


def link_breaks(folder: Path) -> None:
    (folder / "avatars.yaml").unlink()
    (folder / "avatars.yaml").symlink_to("gone.yaml")


@pytest.mark.parametrize("edit", [rewrite, rewrite_unnoticed, rename_over, remove, link_breaks])
def test_every_way_to_change_a_file_is_seen(folder: Path, edit: Callable[[Path], None]) -> None:
    looks = Looks(folder)
    edit(folder)
    assert rested(looks) == ["avatars.yaml"]


def test_a_new_file_is_seen_and_a_folder_that_goes_and_comes(folder: Path) -> None:
    looks = Looks(folder)
    (folder / "second.yml").write_text(SURFACE)
    assert rested(looks) == ["second.yml"]
    folder.rename(folder.with_name("away"))
    assert rested(looks) == ["avatars.yaml", "org.yaml", "second.yml"]
    folder.with_name("away").rename(folder)
    assert rested(looks) == ["avatars.yaml", "org.yaml", "second.yml"]


def test_what_is_no_policy_is_not_looked_at(folder: Path) -> None:
    looks = Looks(folder)
    (folder / ".avatars.yaml.swp").write_text("x")
    (folder / ".schema.json").write_text("{}")
    (folder / "notes.txt").write_text("x")
    (folder / "tests").mkdir()
    (folder / "tests/avatars.yaml").write_text("x")
    assert rested(looks) == []


def test_a_swapped_config_map_is_seen_and_so_is_one_that_is_swapped_back(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path / "policies", {"org.yaml": ORG, "avatars.yaml": SURFACE})
    looks = Looks(mounted.folder)
    mounted.swap({"org.yaml": ORG, "avatars.yaml": STRICT})
    assert rested(looks) == ["..data", "avatars.yaml", "org.yaml"]
    data, version = mounted.folder / "..data", os.readlink(mounted.folder / "..data")
    (mounted.folder / "..next").symlink_to(version)
    os.replace(mounted.folder / "..next", data)
    assert rested(looks) == ["..data"]


def test_a_release_behind_a_symbolic_link_is_seen(tmp_path: Path, folder: Path) -> None:
    current = tmp_path / "current"
    current.symlink_to(folder)
    looks = Looks(current)
    write_policies(tmp_path / "next", avatars=STRICT)
    current.unlink()
    current.symlink_to(tmp_path / "next")
    assert rested(looks) == ["avatars.yaml", "current", "org.yaml"]


def test_nothing_is_told_while_a_file_is_being_written_and_a_change_is_told_once(folder: Path) -> None:
    looks, file = Looks(folder), folder / "avatars.yaml"
    file.write_text("")
    assert looks.look() is None
    file.write_text(STRICT[:40])
    assert looks.look() is None
    file.write_text(STRICT)
    assert looks.look() is None
    assert looks.look() == ["avatars.yaml"]
    assert looks.look() == []
    looks.again()
    assert looks.look() == ["avatars.yaml", "org.yaml"]
    rewrite(folder)
    looks.skip()
    assert looks.look() == []


def test_names_that_came_went_or_differ_are_the_change() -> None:
    before, after = {"a": (1,), "b": (1,), "c": None}, {"b": (2,), "c": None, "d": None}
    assert changed(Fingerprint({}, before), Fingerprint({}, after)) == ["a", "b", "d"]


# ---- one version ------------------------------------------------------------------------------------------


def test_what_changes_while_it_is_read_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def slow(path: Path, **options: Any) -> Any:
        policies = load(path, **options)
        if not seen:
            rewrite(folder)
        seen.append(policies.surfaces["avatars"].request.max_n)
        return policies

    monkeypatch.setattr(watching, "load", slow)
    assert read(folder, NOW).surfaces["avatars"].request.max_n == 1
    assert seen == [2, 1]


def test_a_mix_of_two_versions_that_does_not_load_is_no_problem(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The organisation's file of one version beside the surface of the next: read again, not reported."""
    tries = iter([PolicyError([]), None])

    def torn(path: Path, **options: Any) -> Any:
        error = next(tries)
        if error is not None:
            rewrite(folder)
            raise error
        return load(path, **options)

    monkeypatch.setattr(watching, "load", torn)
    assert read(folder, NOW).surfaces["avatars"].request.max_n == 1


def test_files_that_never_rest_are_a_problem_and_no_endless_loop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def moving(path: Path, **options: Any) -> Any:
        (folder / "avatars.yaml").write_text(SURFACE)
        return load(path, **options)

    monkeypatch.setattr(watching, "load", moving)
    with pytest.raises(PolicyError, match="change all the time"):
        read(folder, NOW)


def test_a_swap_is_read_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Each version says its number in both files; a set never has two, though a swap comes while it is read."""

    def version(number: int) -> dict[str, str]:
        limits = f"limits: {{request: {{prompt: {{max_chars: {number}}}}}}}\n"
        rules = f"rules: [{{id: of-{number}, when: request.n > 3, then: deny}}]\n"
        return {"org.yaml": ORG + limits, "avatars.yaml": SURFACE + rules}

    mounted = Mounted(tmp_path / "policies", version(1))
    waiting: list[threading.Thread] = []

    def swapped_meanwhile(path: Path, **options: Any) -> Any:
        if waiting:
            waiting.pop().start()
        return load(path, **options)

    monkeypatch.setattr(watching, "load", swapped_meanwhile)
    interval = sys.getswitchinterval()
    request.addfinalizer(lambda: sys.setswitchinterval(interval))
    sys.setswitchinterval(1e-5)  # so that the swap happens in the middle of a read, and not after it
    for number in range(2, 100):
        swapping = threading.Thread(target=mounted.swap, args=(version(number),))
        waiting.append(swapping)
        policy = read(mounted.folder, NOW).surfaces["avatars"]
        assert [rule.id for rule in policy.rules] == [f"of-{policy.request.max_prompt_chars}"]
        swapping.join()


# ---- the set in force -------------------------------------------------------------------------------------


@pytest.fixture
def watch(folder: Path) -> Watch:
    return Watch.open(folder, clock=Clock(), every_s=None)


def write(watch: Watch, text: str) -> None:
    put(Path(watch.policies.folder) / "avatars.yaml", text)


def test_a_good_edit_is_in_force_and_the_log_says_from_which_set_to_which(
    watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="policyguard")
    before = watch.policies.digest
    write(watch, STRICT)
    assert watch.reload() is watch.policies
    assert watch.state == ReloadState(watch.policies.digest, NOW)
    assert caplog.messages == [f"new policies in force: {before} -> {watch.policies.digest}"]


def test_a_comment_moves_lines_and_is_no_new_meaning(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="policyguard")
    before = watch.policies
    write(watch, "# a comment\n" + SURFACE)
    after = watch.reload()
    assert (after.digest, after.surfaces["avatars"].place.line) == (
        before.digest,
        before.surfaces["avatars"].place.line + 1,
    )
    assert caplog.messages == []


def test_a_bad_edit_is_reported_once_without_its_text_and_the_last_good_set_stays(
    watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    good, clock = watch.policies, watch._clock
    write(watch, SURFACE + "moderaton: {}\nmodes: shadow\n")
    for _ in range(2):
        with pytest.raises(PolicyError):
            watch.reload()
    assert watch.policies is good
    assert [problem.code for problem in watch.state.problems] == ["PG201", "PG201"]
    assert (watch.state.digest, watch.state.stale_since) == (good.digest, NOW)
    (message,) = caplog.messages
    assert "2 problems, first PG201 at " in message
    assert "avatars.yaml:13:1" in message
    assert "moderaton" not in message
    clock.now += timedelta(minutes=5)  # type: ignore[attr-defined]
    write(watch, BROKEN)
    with pytest.raises(PolicyError):
        watch.reload()
    assert (len(watch.state.problems), watch.state.stale_since) == (1, NOW)


def test_a_fixed_edit_ends_the_staleness_even_where_it_means_the_same(
    watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="policyguard")
    write(watch, BROKEN)
    with pytest.raises(PolicyError):
        watch.reload()
    write(watch, SURFACE)
    watch.reload()
    assert (watch.state.stale_since, watch.state.problems) == (None, ())
    assert caplog.messages[-1] == f"the policies load again: {watch.policies.digest}"


def test_a_set_that_the_guard_cannot_take_is_refused_like_a_bad_edit(watch: Watch) -> None:
    def fits(policies: Any) -> None:
        raise PolicyError([Diagnostic(file="p", line=7, column=1, code="PG505", message="no")])

    watch.fits = fits
    good = watch.policies
    write(watch, STRICT)
    with pytest.raises(PolicyError):
        watch.reload()
    assert watch.policies is good
    assert [problem.line for problem in watch.state.problems] == [7]


def test_a_fault_of_ours_is_reported_like_a_bad_edit(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RecursionError

    monkeypatch.setattr(watching, "load", broken)
    with pytest.raises(PolicyError, match="RecursionError"):
        watch.reload()
    assert watch.state.stale_since == NOW


# ---- following --------------------------------------------------------------------------------------------


@pytest.fixture
def following(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(watching, "REST_S", 0.005)
    watch = Watch.open(folder, clock=Clock(), every_s=0.01)
    yield watch
    watch.close()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "policyguard-policies"]


def test_nothing_runs_before_the_first_use_and_one_thread_then(following: Watch) -> None:
    before = threads()
    assert following.following is False
    for _ in range(3):
        following.follow()
    (thread,) = [thread for thread in threads() if thread not in before]
    assert (following.following, thread.daemon) == (True, True)
    following.close()
    assert not thread.is_alive()
    following.follow()
    assert threads() == before


def test_the_first_use_finds_what_changed_since_the_folder_was_loaded(following: Watch) -> None:
    write(following, STRICT)
    following.follow()
    assert following.policies.surfaces["avatars"].request.max_n == 1


def test_edits_are_followed_through_good_and_bad(following: Watch) -> None:
    following.follow()
    write(following, STRICT)
    until(lambda: following.policies.surfaces["avatars"].request.max_n == 1)
    write(following, BROKEN)
    until(lambda: following.state.stale_since)
    assert following.policies.surfaces["avatars"].request.max_n == 1
    write(following, SURFACE)
    until(lambda: following.state.stale_since is None)
    assert following.policies.surfaces["avatars"].request.max_n == 2


def test_what_could_not_be_read_is_tried_again_though_nothing_changed(
    following: Watch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Too many open files, a network file system that is away for a moment."""
    tries: list[int] = []

    def unreadable(path: Path, **options: Any) -> Any:
        tries.append(1)
        if len(tries) < 4:
            raise PolicyError([Diagnostic(file=str(path), line=1, column=1, code="PG101", message="no")])
        return load(path, **options)

    following.follow()
    monkeypatch.setattr(watching, "load", unreadable)
    write(following, STRICT)
    until(lambda: following.policies.surfaces["avatars"].request.max_n == 1)
    assert (len(tries), len(caplog.messages)) == (4, 1)


def test_a_bad_set_is_loaded_once_and_not_again_until_it_changes(
    following: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Path] = []

    def counted(path: Path, **options: Any) -> Any:
        loads.append(path)
        return load(path, **options)

    following.follow()
    monkeypatch.setattr(watching, "load", counted)
    looks: list[int] = []
    look = following._looks.look
    monkeypatch.setattr(following._looks, "look", lambda: (looks.append(1), look())[1])
    write(following, BROKEN)
    until(lambda: following.state.stale_since)
    after = len(looks)
    until(lambda: len(looks) > after + 5)
    assert len(loads) == 1


def test_a_look_that_fails_is_no_end(
    following: Watch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[int] = []
    look = following._looks.look

    def failing() -> Any:
        failures.append(1)
        if len(failures) < 3:
            raise MemoryError
        return look()

    monkeypatch.setattr(following._looks, "look", failing)
    write(following, STRICT)
    following.follow()
    until(lambda: following.policies.surfaces["avatars"].request.max_n == 1)
    assert "(MemoryError)" in caplog.text


def test_looking_takes_a_small_part_of_the_time(following: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    following.follow()
    (process,) = following._processes.values()
    monkeypatch.setattr(following._looks, "_see", lambda: (setattr(following._looks, "cost_s", 0.5), NOTHING)[1])
    monkeypatch.setattr(process.stop, "wait", lambda pause: (pauses.append(pause), process.stop.set())[0])
    until(lambda: pauses and pauses[-1] == 10.0)


def test_a_file_system_that_does_not_answer_delays_the_first_use_only(
    following: Watch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watching, "_FIRST_S", 0.01)
    answered = threading.Event()
    look = following._looks.look
    monkeypatch.setattr(following._looks, "look", lambda: (answered.wait(HANGS_S), look())[1])
    following.follow()
    assert following.following is True
    assert "takes long" in caplog.text
    answered.set()


def test_a_forked_process_follows_by_itself(tmp_path: Path, folder: Path) -> None:
    script = tmp_path / "forked.py"
    script.write_text(
        "import os, sys, datetime as d\n"
        "from pathlib import Path\n"
        "from policyguard.policy.watch import Watch\n"
        "folder, text = Path(sys.argv[1]), sys.argv[2]\n"
        "watch = Watch.open(folder, clock=lambda: d.datetime.now(d.UTC), every_s=0.01)\n"
        "(folder / 'avatars.yaml').write_text(text)\n"
        "child = os.fork()\n"
        "watch.follow()\n"
        "assert watch.policies.surfaces['avatars'].request.max_n == 1\n"
        "watch.close()\n"
        "if child:\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "    print('both')\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(folder), STRICT], capture_output=True, text=True, timeout=HANGS_S, check=False
    )
    assert done.stdout == "both\n", done.stderr


def test_a_process_ends_though_nobody_closed_the_watch(folder: Path) -> None:
    code = (
        "import sys, datetime as d\nfrom policyguard.policy.watch import Watch\n"
        "watch = Watch.open(sys.argv[1], clock=lambda: d.datetime.now(d.UTC), every_s=60)\nwatch.follow()\nprint('end')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=HANGS_S, check=True
    )
    assert (done.stdout, done.stderr) == ("end\n", "")


# ---- the setting ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "environment", "seconds"),
    [
        (None, "", 1.0),
        (None, "0.25", 0.25),
        (None, "off", None),
        (True, "off", 1.0),
        (False, "5", None),
        (3, "off", 3.0),
        (0.5, "", 0.5),
    ],
)
def test_how_often_is_an_argument_or_the_setting(
    given: Any, environment: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLICYGUARD_RELOAD", environment)
    assert every_s(given) == seconds


@pytest.mark.parametrize("wrong", ["0", "-1", "soon", "inf", "nan", "on"])
def test_a_setting_that_is_no_time_is_an_error(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICYGUARD_RELOAD", wrong)
    with pytest.raises(ConfigError, match="a number of seconds or `off`"):
        every_s()
