from __future__ import annotations

import base64
import multiprocessing
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from policyguard.audit.keys import add_key, load_key
from policyguard.errors import ConfigError


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "store.key"
    keys = load_key(path, create=True)
    assert ([len(key) for key in keys], stat.S_IMODE(path.stat().st_mode)) == ([32], 0o600)
    assert load_key(path, create=True) == keys
    assert load_key(str(path), create=False) == keys
    assert [file.name for file in tmp_path.iterdir()] == ["store.key"]


def test_every_new_key_is_another(tmp_path: Path) -> None:
    assert load_key(tmp_path / "a", create=True) != load_key(tmp_path / "b", create=True)


def test_threads_that_start_together_get_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = set(pool.map(lambda _: load_key(tmp_path / "store.key", create=True), range(32)))
    assert len(keys) == 1


def test_processes_that_start_together_get_one_key(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        calls = [pool.apply_async(load_key, (tmp_path / "store.key",), {"create": True}) for _ in range(12)]
        assert len({call.get(60) for call in calls}) == 1
        pool.close()
        pool.join()


def test_a_missing_key_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no key file"):
        load_key(tmp_path / "store.key", create=False)


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no key file"):
        load_key(tmp_path / "missing" / "store.key", create=True)


def test_a_folder_is_no_key_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        load_key(tmp_path, create=True)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    load_key(tmp_path / "store.key", create=True)
    (tmp_path / "store.key").chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_key(tmp_path / "store.key", create=True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"policyguard-key-1:",
        b"policyguard-key-1:not base64!",
        b"policyguard-key-1:" + base64.b64encode(bytes(31)),
        base64.b64encode(bytes(32)),
        b"policyguard-key-2:" + base64.b64encode(bytes(32)),
        b"policyguard-key-1:" + base64.b64encode(bytes(32)) + b"\nsecond line",
    ],
)
def test_anything_else_is_no_key_and_is_not_repeated(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "store.key", content)
    with pytest.raises(ConfigError, match="is no key file") as raised:
        load_key(path, create=True)
    assert base64.b64encode(bytes(31)).decode() not in str(raised.value)
    assert path.read_bytes() == content


# ---- rotation ---------------------------------------------------------------------------------------------


def test_a_new_key_comes_last_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "store.key"
    first = load_key(path, create=True)
    second = add_key(path)
    third = add_key(path)
    assert (second[:1], third[:2], len(set(third))) == (first, second, 3)
    assert load_key(path, create=False) == third
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["store.key"]


def test_a_key_is_not_added_to_a_file_that_is_not_there_or_no_key_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no key file"):
        add_key(tmp_path / "store.key")
    with pytest.raises(ConfigError, match="is no key file"):
        add_key(write(tmp_path / "other", b"something else"))
    assert (tmp_path / "other").read_bytes() == b"something else"
