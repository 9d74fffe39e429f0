"""How durable what the database acknowledges is: what its settings leave open, in words for who runs it.

It reads settings and changes none.
"""

from __future__ import annotations

from sqlalchemy import Connection


def window(connection: Connection) -> str | None:
    """What an outage could take back; None where nothing of it shows. SQLite's is a setting of ours."""
    if connection.dialect.name == "sqlite":
        return None
    commit, names, standbys = connection.exec_driver_sql(
        "SELECT current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),"
        " (SELECT count(*) FROM pg_stat_replication WHERE application_name <> 'pg_basebackup')"
    ).one()
    if commit == "off":
        return "synchronous_commit is off: a crash of the server takes back the last moments; set it to `on`"
    if (standbys or names) and (commit == "local" or not names):
        return (
            "a failover takes back what the standby had not received: set synchronous_standby_names, and"
            " synchronous_commit to `on` or `remote_apply`"
        )
    return None
