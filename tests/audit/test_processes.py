"""The sealed record under kill -9, and how much memory many rows take."""

from __future__ import annotations

import json
import os
from multiprocessing import get_context
from pathlib import Path
from random import Random

from audit.sealing import Sealed
from audit.workers import most_memory, work_until_killed
from patience import HANGS_S

KILLS = int(os.environ.get("POLICYGUARD_KILLS", "6"))
ROWS = int(os.environ.get("POLICYGUARD_ROWS", "30000"))
MEGABYTES = 24
SPAWN = get_context("spawn")


def test_a_process_that_is_killed_anywhere_leaves_a_record_that_verifies_and_goes_on(
    record: Sealed, tmp_path: Path
) -> None:
    file, random = tmp_path / "archive.jsonl", Random(7)
    sizes = [0]
    for turn in range(KILLS):
        parent, child = SPAWN.Pipe()
        process = SPAWN.Process(target=work_until_killed, args=(record.url, file, f"p{turn}", child))
        process.start()
        for _ in range(random.randrange(1, 40)):
            assert parent.poll(HANGS_S)
            parent.recv()
        process.join(random.uniform(0, 0.01))  # somewhere in the step that it began last
        process.kill()
        process.join()
        assert record.verify().findings == ()
        sizes.append(record.store.seals.extent()[1])
    assert sizes == sorted(sizes)
    assert sizes[-1] > 0
    leaves = [line["leaf"] for line in map(_read, file.read_text().splitlines()) if "leaf" in line]
    cursor = record.store.exports.get("archive")
    assert cursor is not None
    assert set(range(cursor.leaf)) <= set(leaves)
    assert list(dict.fromkeys(leaves)) == sorted(set(leaves))


def _read(line: str) -> dict[str, int]:
    try:
        read: dict[str, int] = json.loads(line)
    except ValueError:
        return {}  # half a line of one that was killed
    return read


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    parent, child = SPAWN.Pipe()
    process = SPAWN.Process(target=most_memory, args=(tmp_path / "record.sqlite3", ROWS, child))
    process.start()
    assert parent.poll(HANGS_S)
    few, many = parent.recv()
    process.join()
    assert many - few < MEGABYTES
