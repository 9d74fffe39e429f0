"""Alembic revisions of the store, shipped with the package. One file a revision, named by number and purpose."""
