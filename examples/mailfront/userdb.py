"""The site's users, aliases and domains, in any database that SQLAlchemy speaks to.

    python examples/mailfront/userdb.py --database sqlite+aiosqlite:///mail.db --demo

creates the tables, and with --demo fills them. PostgreSQL is postgresql+asyncpg://user@host/name.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import enum
import secrets
from collections.abc import Sequence
from typing import Self

import argon2
import attrs
from scramp import ScramMechanism
from sqlalchemy import ForeignKey, LargeBinary, make_url, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

DEFAULT_DATABASE = "sqlite+aiosqlite:///mail.db"
SCRAM_SALT_SIZE = 16  # bytes
SCRAM_ITERATIONS = 4096  # RFC 7677 asks for no less, and clients have to do as many


SITE_KEY = "site key"


class Plan(enum.Enum):
    """What a user pays for; mail goes by different ways accordingly."""

    PAID = "paid"
    TRIAL = "trial"


class Base(MappedAsDataclass, DeclarativeBase):
    """What all tables have in common."""


class Domain(Base):
    """A domain that is received for; lower case."""

    __tablename__ = "domains"
    name: Mapped[str] = mapped_column(primary_key=True)


class User(Base):
    """A mailbox. ``address`` is local@domain, lower case, without quotes and extension."""

    __tablename__ = "users"
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

    def set_password(self, password: str) -> None:
        """Make an argon2 hash and a SCRAM-SHA-256 verifier of a password."""
        self.argon2_hash = argon2.PasswordHasher().hash(password)
        made = ScramMechanism("SCRAM-SHA-256").make_auth_info(
            password, SCRAM_ITERATIONS, secrets.token_bytes(SCRAM_SALT_SIZE)
        )
        self.scram_salt, self.scram_stored_key, self.scram_server_key, self.scram_iterations = made


class Alias(Base):
    """Another address for one or more; ``targets`` is as Postfix wants it, by commas."""

    __tablename__ = "aliases"
    address: Mapped[str] = mapped_column(primary_key=True)
    targets: Mapped[str]


class Secret(Base):
    """What the daemons of the site have in common, and nobody else knows."""

    __tablename__ = "secrets"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[bytes] = mapped_column(LargeBinary, repr=False)


@attrs.frozen
class UserDB:
    """Asks the database; SQLAlchemyError, OSError or TimeoutError where it can't be asked."""

    engine: AsyncEngine
    _session: async_sessionmaker[AsyncSession]

    @classmethod
    def connect(cls, url: str, *, pool_size: int = 10) -> Self:
        """A pool of connections, made as they are needed; one that has broken is made anew.

        ValueError for a URL that can't be one, or whose driver is not installed.
        """
        # SQLite has no server to lose, and a pool of its own kind.
        pool = {} if url.startswith("sqlite") else {"pool_size": pool_size, "pool_pre_ping": True}
        try:
            engine = create_async_engine(url, **pool)
        except (SQLAlchemyError, ImportError) as error:
            raise ValueError(f"this database can't be used: {error}") from None
        return cls(engine, async_sessionmaker(engine, expire_on_commit=False))

    async def close(self) -> None:
        """Close the pool."""
        await self.engine.dispose()

    async def create_tables(self) -> None:
        """Make the tables that are not there yet."""
        async with self.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        # Another may be doing this at the same time.
        with contextlib.suppress(IntegrityError):
            async with self._session.begin() as session:
                session.add(Secret(SITE_KEY, secrets.token_bytes(32)))

    async def add(self, rows: Sequence[Base]) -> None:
        """Store rows; those that are there are written over."""
        async with self._session.begin() as session:
            for row in rows:
                await session.merge(row)
                await session.flush()

    async def user(self, address: str) -> User | None:
        """The user of that address, if it is one."""
        if "\0" in address:
            return None  # which PostgreSQL would take for an error, and not for a stranger
        async with self._session() as session:
            user: User | None = await session.get(User, address)
            return user

    async def alias(self, address: str) -> str | None:
        """The targets of that alias."""
        query = select(Alias.targets).where(Alias.address == address)
        async with self._session() as session:
            targets: str | None = (await session.execute(query)).scalar_one_or_none()
            return targets

    async def has_domain(self, name: str) -> bool:
        """Whether mail is received for that domain."""
        async with self._session() as session:
            return await session.get(Domain, name) is not None

    async def site_key(self) -> bytes:
        """32 bytes that are this site's own, made with the tables."""
        async with self._session() as session:
            return (await session.get_one(Secret, SITE_KEY)).value


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
    rows.append(Alias("team@example.test", "ann@example.test, bob@example.test"))
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
        await users.create_tables()
        rows = demo_rows() if demo else []
        await users.add(rows)
    except (SQLAlchemyError, OSError) as error:
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
