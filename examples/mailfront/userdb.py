"""The site's users, aliases and domains, in any database that SQLAlchemy speaks to.

    python examples/mailfront/userdb.py --database sqlite+aiosqlite:///mail.db --demo

creates the tables, and with --demo fills them. PostgreSQL is postgresql+asyncpg://user@host/name.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import enum
import logging
import secrets
import sqlite3
import sys
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Self, cast

sys.path.insert(0, str(Path(__file__).parents[1]))

import argon2
import attrs
from scramp import ScramException, ScramMechanism
from scramp.utils import saslprep
from sqlalchemy import (
    URL,
    CheckConstraint,
    ForeignKey,
    LargeBinary,
    Select,
    event,
    make_url,
    select,
)
from sqlalchemy.exc import DisconnectionError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    mapped_column,
    validates,
)
from sqlalchemy.pool import ConnectionPoolEntry

from mailfront._addresses import address_name, domain_name
from mailfront._patience import Patience

DEFAULT_DATABASE = "sqlite+aiosqlite:///mail.db"
SCRAM_SALT_SIZE = 16  # bytes
SCRAM_ITERATIONS = 4096  # RFC 7677 asks for no less, and clients have to do as many
SITE_KEY = "site key"
CLOSING: Final = 2.0  # seconds for the server to say good-bye; one that is frozen never does


class Plan(enum.Enum):
    """What a user pays for; mail goes by different ways accordingly."""

    PAID = "paid"
    TRIAL = "trial"


class Base(MappedAsDataclass, DeclarativeBase):
    """What all tables have in common."""


# Rows are stored by the names under which they are looked for, see `mailfront._addresses`; a wrong
# one is a ValueError. The constraints hold for those who fill the tables in another way.


class Domain(Base):
    """A domain that is received for."""

    __tablename__ = "domains"
    __table_args__ = (CheckConstraint("name <> '' AND name = lower(name)"),)
    name: Mapped[str] = mapped_column(primary_key=True)

    @validates("name")
    def _name(self, _key: str, name: str) -> str:
        return domain_name(name)


class User(Base):
    """A mailbox. ``address`` is local@domain, without an extension; ``domain`` the same domain."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("address = lower(address) AND mailbox <> ''"),
        CheckConstraint("length(address) > length(domain) + 1"),
        CheckConstraint("substr(address, length(address) - length(domain)) = '@' || domain"),
    )
    address: Mapped[str] = mapped_column(primary_key=True)
    domain: Mapped[str] = mapped_column(ForeignKey("domains.name"))
    plan: Mapped[Plan]
    mailbox: Mapped[str]
    # May not log in, whatever the password; mail still comes.
    blocked: Mapped[bool] = mapped_column(default=False)
    # The password itself is nowhere. Both are made from it, in one place, or neither.
    argon2_hash: Mapped[str | None] = mapped_column(default=None, repr=False)
    scram_salt: Mapped[bytes | None] = mapped_column(LargeBinary, default=None, repr=False)
    scram_iterations: Mapped[int | None] = mapped_column(default=None, repr=False)
    scram_stored_key: Mapped[bytes | None] = mapped_column(LargeBinary, default=None, repr=False)
    scram_server_key: Mapped[bytes | None] = mapped_column(LargeBinary, default=None, repr=False)

    @validates("address")
    def _address(self, _key: str, address: str) -> str:
        return address_name(address)

    @validates("domain")
    def _domain(self, _key: str, domain: str) -> str:
        if domain_name(domain) != self.address.rpartition("@")[2]:
            raise ValueError(f"{self.address!r} is not in the domain {domain!r}")
        return domain_name(domain)

    @validates("mailbox")
    def _mailbox(self, _key: str, mailbox: str) -> str:
        return value_for_postfix(mailbox)

    def set_password(self, password: str) -> None:
        """Make an argon2 hash and a SCRAM-SHA-256 verifier of a password.

        ValueError for one that can't be typed in the same way everywhere; then nothing is changed.
        """
        text = prepared(password)
        made = ScramMechanism("SCRAM-SHA-256").make_auth_info(
            text, SCRAM_ITERATIONS, secrets.token_bytes(SCRAM_SALT_SIZE)
        )
        self.argon2_hash = argon2.PasswordHasher().hash(text)
        self.scram_salt, self.scram_stored_key, self.scram_server_key, self.scram_iterations = made


class Alias(Base):
    """Another address for one or more; ``targets`` is as Postfix wants it, by commas.

    And without blanks, each of which takes three bytes of the 4096 that tcp_table has.
    """

    __tablename__ = "aliases"
    __table_args__ = (
        CheckConstraint("address = lower(address) AND address LIKE '_%@_%' AND targets <> ''"),
    )
    address: Mapped[str] = mapped_column(primary_key=True)
    targets: Mapped[str]

    @validates("address")
    def _address(self, _key: str, address: str) -> str:
        return address_name(address)

    @validates("targets")
    def _targets(self, _key: str, targets: str) -> str:
        return value_for_postfix(targets)


class Secret(Base):
    """What the daemons of the site have in common, and nobody else knows."""

    __tablename__ = "secrets"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[bytes] = mapped_column(LargeBinary, repr=False)


def prepared(password: str) -> str:
    """The one form of a password that may be typed in several (SASLprep, RFC 4013).

    ValueError if it is empty, or has what no keyboard writes.
    """
    try:
        text: str = saslprep(password)
    except ScramException as error:
        raise ValueError(f"this can be no password: {error}") from None
    if not text:
        raise ValueError("this can be no password: it is empty")
    return text


def value_for_postfix(text: str) -> str:
    """What a look-up may answer; ValueError for what Postfix takes for a broken table."""
    if not text.strip() or "\0" in text:
        raise ValueError(f"{text!r} is empty, or holds NUL")
    return text


class SQLite(sqlite3.Connection):
    """Looks at foreign keys, as other databases do. ``threads`` are those that there are for it."""

    threads: ClassVar[weakref.WeakSet[threading.Thread]] = weakref.WeakSet()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.threads.add(threading.current_thread())
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA foreign_keys = ON")


def settings_for(url: URL, connections: int, patience: float) -> dict[str, Any]:
    """What SQLAlchemy has to know of a database."""
    pool: dict[str, Any] = {"pool_size": connections, "max_overflow": 0}
    if url.get_backend_name() != "sqlite":
        return {**pool, "pool_pre_ping": True}
    # For a lock it waits in a thread, which nothing interrupts: so it has to give up before we do.
    connect = {"factory": SQLite, "timeout": patience / 2}
    return {"connect_args": connect} | (pool if has_file(url) else {})


def has_file(url: URL) -> bool:
    """Whether it is SQLite's, and not in memory."""
    return url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")


def watch(engine: AsyncEngine, path: Path) -> None:
    """Read no SQLite file that is not there any more: a connection that is kept would, for ever."""

    def identity() -> tuple[int, int] | None:
        try:
            status = path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    # Before it is opened: what takes its place in between is seen then.
    @event.listens_for(engine.sync_engine, "do_connect")
    def opening(_dialect: object, record: ConnectionPoolEntry, _args: Any, _more: Any) -> None:
        record.info["file"] = identity()

    @event.listens_for(engine.sync_engine, "checkout")
    def wanted(_connection: object, record: ConnectionPoolEntry, _proxy: object) -> None:
        if record.info["file"] is None:
            record.info["file"] = identity()  # opening it has made it
        elif record.info["file"] != identity():
            raise DisconnectionError("another file has taken its place")


def is_news(record: logging.LogRecord) -> bool:
    """The pool has a traceback for each connection that was given up, which we know."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


logging.getLogger("sqlalchemy.pool.impl.AsyncAdaptedQueuePool").addFilter(is_news)


@attrs.frozen
class UserDB:
    """Asks the database; SQLAlchemyError, OSError or TimeoutError where it can't be asked.

    Names are those of the database, see `mailfront._addresses`.
    """

    engine: AsyncEngine
    _session: async_sessionmaker[AsyncSession]
    _patience: Patience

    @classmethod
    def connect(cls, url: str, *, connections: int = 10, patience: float = 5.0) -> Self:
        """Connections are made as they are needed; one that has broken is made anew.

        A question is given up after ``patience`` seconds. ValueError for a URL that can't be one,
        or whose driver is not installed.
        """
        try:
            settings = settings_for(make_url(url), connections, patience)
            # Not even in an error's text: people type passwords where their names should be.
            engine = create_async_engine(url, hide_parameters=True, **settings)
            if has_file(engine.url):
                watch(engine, Path(str(engine.url.database)))
        except (SQLAlchemyError, ImportError) as error:
            raise ValueError(f"this database can't be used: {error}") from None
        session = async_sessionmaker(engine, expire_on_commit=False)
        return cls(engine, session, Patience(patience, connections))

    async def close(self) -> None:
        """Close all connections, within some seconds whatever the database does."""
        await self._patience.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                await self.engine.dispose()
                # One that could not connect has a last word to the loop, which has to be there.
                for thread in list(SQLite.threads):
                    await asyncio.to_thread(thread.join, CLOSING)

    async def create_tables(self, rows: Sequence[Base] = ()) -> None:
        """Make the tables that are not there yet, and store rows: all of it, or nothing."""
        async with self.engine.begin() as connection:
            if connection.dialect.name == "sqlite":
                # Which otherwise begins only where rows are stored.
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            await connection.run_sync(Base.metadata.create_all)
            async with self._session(bind=connection) as session:
                # Another may be doing this at the same time.
                with contextlib.suppress(IntegrityError):
                    async with session.begin_nested():
                        session.add(Secret(SITE_KEY, secrets.token_bytes(32)))
                await store(session, rows)
                await session.commit()

    async def add(self, rows: Sequence[Base]) -> None:
        """Store rows; those that are there are written over."""
        async with self._session.begin() as session:
            await store(session, rows)

    async def user(self, address: str) -> User | None:
        """All of the user of that address, for those who check passwords."""
        return cast("User | None", await self.value(select(User).where(User.address == address)))

    # Others need not be allowed to read passwords' hashes, and ask for what they need.

    async def has_user(self, address: str) -> bool:
        """Whether it is a user's address."""
        query = select(User.address).where(User.address == address)
        return await self.value(query) is not None

    async def mailbox(self, address: str) -> str | None:
        """Where the mail of that user goes."""
        query = select(User.mailbox).where(User.address == address)
        return cast("str | None", await self.value(query))

    async def plan(self, address: str) -> Plan | None:
        """What that user pays for. LookupError for a plan that is none of `Plan`."""
        query = select(User.plan).where(User.address == address)
        return cast("Plan | None", await self.value(query))

    async def alias(self, address: str) -> str | None:
        """The targets of that alias."""
        query = select(Alias.targets).where(Alias.address == address)
        return cast("str | None", await self.value(query))

    async def has_domain(self, name: str) -> bool:
        """Whether mail is received for that domain."""
        return await self.value(select(Domain.name).where(Domain.name == name)) is not None

    async def site_key(self) -> bytes:
        """32 bytes that are this site's own, made with the tables."""
        value = await self.value(select(Secret.value).where(Secret.name == SITE_KEY))
        if value is None:
            raise LookupError("this database has no site key: userdb.py makes it")
        return cast("bytes", value)

    async def value(self, query: Select[Any]) -> Any:
        """The one value that there is, or None; for tables of others, too."""

        async def ask() -> Any:
            async with self._session() as session:
                return await session.scalar(query)

        return await self._patience.within(ask)


async def store(session: AsyncSession, rows: Sequence[Base]) -> None:
    """In turn: a user comes after his domain."""
    for row in rows:
        await session.merge(row)
        await session.flush()


def demo_rows() -> list[Base]:
    """Two domains, a few users of either plan, whose passwords are their names; one is blocked."""
    rows: list[Base] = [Domain("example.test"), Domain("trial.example.test")]
    for name, domain, plan in (
        ("ann", "example.test", Plan.PAID),
        ("bob", "example.test", Plan.TRIAL),
        ("a b", "example.test", Plan.PAID),
        ("tim", "trial.example.test", Plan.TRIAL),
    ):
        user = User(f"{name}@{domain}", domain, plan, f"{domain}/{name}/")
        user.set_password(name)
        user.blocked = name == "tim"
        rows.append(user)
    rows.append(Alias("team@example.test", "ann@example.test,bob@example.test"))
    rows.append(Alias("postmaster@example.test", "ann@example.test"))
    return rows


async def main(url: str, *, demo: bool) -> str:
    """Create the tables, and fill them if asked; what was done."""
    try:
        users = UserDB.connect(url)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    where = make_url(url).render_as_string(hide_password=True)
    try:
        rows = demo_rows() if demo else []
        await users.create_tables(rows)
    # The last two are a driver's, for what it can't make sense of in the URL.
    except (SQLAlchemyError, OSError, TypeError, ValueError) as error:
        # Its first line; the rest has the statement, and a link.
        raise SystemExit(f"{where}: {str(error).splitlines()[0]}") from None
    finally:
        await users.close()
    return f"{where}: the tables are there" + (f", with {len(rows)} demo rows" if demo else "")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database", default=DEFAULT_DATABASE, metavar="URL", help="%(default)s")
    parser.add_argument("--demo", action="store_true", help="load some users to play with")
    options = parser.parse_args()
    print(asyncio.run(main(options.database, demo=options.demo)))
