"""What problems of policy tests are called. The codes of files and of names are those of policies."""

from __future__ import annotations

from collections.abc import Mapping

CODES: Mapping[str, str] = {
    "PG601": "nothing is tested",
    "PG602": "a request that no door would let in",
    "PG603": "a matrix cell without an expectation",
    "PG604": "an expectation for a cell that the matrix does not have",
    "PG605": "a surface without tests",
    "PG606": "a policy test that fails",
    "PG607": "a condition that no test saw true, or none saw false",
}
