"""The fixtures of the acceptance tests: the sandbox behind, what the store's tests know of its books."""

from acceptance.conftest import sandbox as sandbox
