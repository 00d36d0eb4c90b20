"""Opens the database of records: a SQLite file by default, PostgreSQL by URL.

Why SQLite is set up as it is: the driver's own handling opens no transaction before the first write, so "read,
then insert" races silently; a deferred transaction that turns into a write ignores the busy timeout. So the
driver is told to leave transactions alone, and every write transaction starts with BEGIN IMMEDIATE.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DataError,
    IntegrityError,
    NoSuchModuleError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.orm import Session

from agent.errors import BadDatabaseUrl, DatabaseUnusable
from maps_engine.folders import data_folder

ENVIRONMENT = "HEADSCRIBE_DATABASE"
BUSY_SECONDS = 5.0
MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 7_204_501  # any fixed number: the PostgreSQL advisory lock of `alone`
ANSWER_SECONDS = 10  # until a PostgreSQL server that says nothing is given up


def database_url(url: str | None = None) -> URL:
    """The address to open: `url`, else HEADSCRIBE_DATABASE, else a SQLite file in the data folder.

    Plain `postgresql://` means psycopg 3. Raises BadDatabaseUrl for anything that is neither system.
    """
    given = url or os.environ.get(ENVIRONMENT)
    if not given:
        return URL.create("sqlite", database=str(data_folder() / "records.sqlite"))
    if "://" not in given:
        return _file(URL.create("sqlite", database=given))
    try:
        parsed = make_url(given)
    except ArgumentError as error:
        raise _bad_url(given) from error
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise _bad_url(parsed.render_as_string(hide_password=True))
    return _file(parsed) if parsed.get_backend_name() == "sqlite" else parsed


def _file(address: URL) -> URL:
    """The address of a SQLite file. Raises BadDatabaseUrl for one in memory: each connection would get its own."""
    if not address.database or ":memory:" in address.database or "mode" in address.query:
        raise _bad_url(address.database or "sqlite://")
    return address.set(database=os.path.expanduser(address.database))  # noqa: PTH111  (Path's raises for unknown users)


def _bad_url(got: str) -> BadDatabaseUrl:
    return BadDatabaseUrl(
        "not a database address",
        got=got.split("@")[-1],
        expected="a file name, sqlite:///FILE or postgresql://USER@HOST/NAME",
    )


def create_engine_for(url: str | URL | None = None) -> Engine:
    """An Engine with the right transaction rules, without creating or upgrading tables."""
    address = url if isinstance(url, URL) else database_url(url)
    if address.get_backend_name() == "sqlite":
        return _sqlite_engine(address)
    waits = {"connect_timeout": ANSWER_SECONDS, "tcp_user_timeout": 6 * ANSWER_SECONDS * 1000}
    given = {name: value for name, value in waits.items() if name not in address.query}  # the address decides
    try:
        return create_engine(address, pool_size=10, max_overflow=30, pool_pre_ping=True, connect_args=given)
    except (ImportError, NoSuchModuleError) as error:
        raise DatabaseUnusable(
            "PostgreSQL needs its driver", next_step="Install the extra: pip install 'headscribe[postgres]'"
        ) from error


def _sqlite_engine(address: URL) -> Engine:
    if address.database:
        _make_folder(Path(address.database).parent)
    engine = create_engine(
        address,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        pool_size=10,
        max_overflow=30,
    )
    event.listen(engine, "connect", _on_sqlite_connect)
    event.listen(engine, "begin", _on_sqlite_begin)
    return engine


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseUnusable("cannot make the folder of the database", got=f"{folder} ({error.strerror})") from error


def _on_sqlite_connect(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {int(BUSY_SECONDS * 1000)}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_sqlite_begin(connection: Connection) -> None:
    wants_write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if wants_write else "BEGIN")


_writers: dict[str, threading.Lock] = {}
_writers_guard = threading.Lock()


@contextmanager
def _turn_of(engine: Engine) -> Iterator[None]:
    """Queue the writers of this process: SQLite lets one write at a time and polls with growing sleeps."""
    if engine.dialect.name != "sqlite":
        yield
        return
    with _writers_guard:
        lock = _writers.setdefault(str(engine.url), threading.Lock())
    if not lock.acquire(timeout=BUSY_SECONDS * 4):
        raise DatabaseUnusable("the database stayed busy", got=f"{BUSY_SECONDS * 4:.0f} s", next_step="Try again.")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """A session that only reads one consistent snapshot."""
    with _plain_errors(engine), Session(engine) as session:
        yield session


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """A session that holds the write lock from its start (BEGIN IMMEDIATE) and commits at the end."""
    with _turn_of(engine), _plain_errors(engine):
        session = Session(engine.execution_options(write=True), expire_on_commit=False)
        with session, session.begin():
            session.connection()  # take the lock now, before the first read
            yield session


def alone(session: Session) -> None:
    """Hold other processes at this line until the transaction ends, so that none adds what this one found missing.

    Only PostgreSQL needs it: writers of a SQLite file are alone from the start of their transaction.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _LOCK})


@contextmanager
def _plain_errors(engine: Engine) -> Iterator[None]:
    """Raises DatabaseUnusable, with one line that says why, for a full disk or a locked, lost or damaged database."""
    try:
        yield
    except (IntegrityError, ProgrammingError, DataError):
        raise  # our own mistake, not the database's
    except DatabaseError as error:
        place = engine.url.render_as_string(hide_password=True)
        raise DatabaseUnusable(
            f"the database cannot be used ({str(error.orig).splitlines()[0]})",
            got=place,
            next_step="What was confirmed is kept; run the command again when it can be reached.",
        ) from error


def open_database(url: str | URL | None = None) -> Engine:
    """Create the engine and bring its tables up to date. Raises DatabaseUnusable or BadDatabaseUrl."""
    from alembic.util import CommandError

    engine = create_engine_for(url)
    try:
        upgrade_database(engine)
    except CommandError as error:
        raise DatabaseUnusable(
            "the database was made by a newer headscribe",
            got=f"{engine.url.render_as_string(hide_password=True)} ({error})",
            next_step="Update headscribe, or name another database.",
        ) from error
    except SQLAlchemyError as error:
        place = engine.url.render_as_string(hide_password=True)
        detail = str(error.__cause__ or error).splitlines()[0]
        raise DatabaseUnusable(f"the database cannot be opened ({detail})", got=place) from error
    return engine


def upgrade_database(engine: Engine, *, scripts: Path = MIGRATIONS, version_table: str = "records_version") -> None:
    """Run the missing Alembic migrations of `scripts`; safe when several processes start together.

    Other packages keep tables of their own in the same database with their own folder and version table.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    newest = ScriptDirectory.from_config(config).get_current_head()
    with writing(engine) as session:
        alone(session)
        connection = session.connection()
        current = MigrationContext.configure(connection, opts={"version_table": version_table})
        if current.get_current_revision() != newest:
            config.attributes.update(connection=connection, version_table=version_table)
            command.upgrade(config, "head")
