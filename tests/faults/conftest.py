"""The fixtures of the acceptance tests: the sandbox behind, what the store's tests know of its books."""

import os

from acceptance.conftest import sandbox as sandbox

# Minutes long, and they need PgBouncer and root: `make faults`.
collect_ignore_glob = [] if os.environ.get("POLICYGUARD_FAULTS") == "long" else ["test_*.py"]
