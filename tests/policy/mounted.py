"""Ways to change a folder while it is read: one file by rename, or all as Kubernetes swaps a mounted ConfigMap."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path


def put(file: Path, text: str) -> None:
    """Write a file by rename, so that no reader sees a part of it."""
    draft = file.with_name(f".{file.name}.draft")
    draft.write_text(text)
    os.replace(draft, file)


class Mounted:
    """Links through `..data`, which one rename points at the next version.

    `folder` is what an app reads; `swap` brings a version in, as the kubelet does.
    """

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self.folder = folder
        self._versions = 0
        folder.mkdir(parents=True)
        self.swap(files)
        for name in files:
            (folder / name).symlink_to(f"..data/{name}")

    def swap(self, files: Mapping[str, str]) -> None:
        """All files at once; the version before is removed, as the kubelet does."""
        self._versions += 1
        version, data, draft = self.folder / f"..v{self._versions}", self.folder / "..data", self.folder / "..data_tmp"
        version.mkdir()
        for name, text in files.items():
            (version / name).write_text(text)
        before = data.resolve() if data.exists() else None
        draft.symlink_to(version.name)
        os.replace(draft, data)
        if before is not None:
            shutil.rmtree(before)
