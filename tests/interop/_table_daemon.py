"""The look-up daemon as a program, beside the tests that need it."""

from __future__ import annotations

from ._program import Program


class TableDaemon(Program):
    """The daemon at given loopback ports: one for each map, and one for socketmap."""

    def __init__(self, database: str, *arguments: str, **ports: int) -> None:
        for name, port in ports.items():
            address = f"inet:127.0.0.1:{port}"
            arguments += (
                ("--socketmap", address) if name == "socketmap" else ("--map", f"{name}={address}")
            )
        super().__init__(
            "mailfront/table_daemon.py", "--database", database, *arguments, ready="ready"
        )
