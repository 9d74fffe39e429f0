"""Where a store is: a file of SQLite or a database of PostgreSQL, from one URL. No message shows its password."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from policyguard.errors import ConfigError
from policyguard.settings import masked, setting
from policyguard.store.db.database import Backend
from policyguard.store.db.sqlite import SQLite

HINT = "use `sqlite:///path` or `postgresql+psycopg://user@host/name`"
_POSTGRES = ("postgresql+psycopg", "postgresql", "postgres")


def backend(url: str, synchronous: str | None = None) -> Backend:
    """The engine that a URL names. Raises `ConfigError` for one that cannot work."""
    server = server_url(url)
    if server is None:
        return SQLite(sqlite_path(url), synchronous=setting("synchronous", synchronous) or "FULL")
    from policyguard.store.db.postgres import Postgres  # here, because psycopg is an extra

    return Postgres(server)


def server_url(url: str) -> URL | None:
    """The URL of a PostgreSQL server, else None."""
    if not isinstance(url, str) or url.startswith("<"):  # an object's own text would name a new and empty file
        raise ConfigError(f"the store's URL must be a text that names a database; {HINT}")
    if url.partition("://")[0] not in _POSTGRES:
        return None
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        raise ConfigError(f"the store's URL cannot be read; {HINT}") from None
    if not parsed.database:
        raise ConfigError(f"the store's URL names no database; {HINT}")
    if url.count("@") > 1:  # what is behind the first would be taken for the host
        raise ConfigError("the store's URL has an `@` too many; in a password it is written `%40`")
    return _password_in_its_place(parsed).set(drivername="postgresql+psycopg")


def _password_in_its_place(url: URL) -> URL:
    """Taken out of the query, where SQLAlchemy would show it."""
    given = url.query.get("password")
    return url.difference_update_query(["password"]).set(password=given) if isinstance(given, str) else url


def sqlite_path(url: str) -> Path:
    """The file that a store's URL names: `sqlite:///relative`, `sqlite:////absolute`, or a path alone."""
    scheme, separator, rest = url.partition("://")
    if masked(scheme) != scheme:  # without `://` it is all of the URL, and what has a password is no file
        raise ConfigError(f"the store's URL cannot be read; {HINT}")
    if not separator:
        scheme, rest = "sqlite", f"/{url}"
    if scheme != "sqlite":
        raise ConfigError(f"`{scheme}` is no store; {HINT}")
    name = rest.removeprefix("/")
    if not name or name.startswith((":memory:", "file:")) or not rest.startswith("/") or "?" in name:
        raise ConfigError("a store needs a file that outlives the process; use `sqlite:///path`")
    return Path(name).absolute()


def is_missing(url: str) -> bool:
    """A file that does not exist. Whether a server's database does, only the server knows."""
    return server_url(url) is None and not sqlite_path(url).exists()


def place(url: str) -> str:
    """The address as it may be shown: without a password."""
    server = server_url(url)
    return str(sqlite_path(url)) if server is None else masked(server.render_as_string(hide_password=True))


def key_beside(url: str) -> Path:
    """Where the key file of an SQLite store stands when nothing else is said: beside the database."""
    path = sqlite_path(url)
    return path.with_name(path.name + ".key")


def key_path(url: str, given: str | None = None) -> Path:
    """The key file: the one that was given or set, else the one beside an SQLite database.

    Raises `ConfigError` for PostgreSQL without one: several hosts share the database, and need the same key.
    """
    chosen = setting("key_file", given)
    if chosen is not None:
        return Path(chosen)
    if server_url(url) is not None:
        raise ConfigError("a PostgreSQL store needs the key file that all its hosts share: set POLICYGUARD_KEY_FILE")
    return key_beside(url)
