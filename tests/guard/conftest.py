from __future__ import annotations

from adapters.conftest import moderator as moderator
from adapters.conftest import open_guard as open_guard
