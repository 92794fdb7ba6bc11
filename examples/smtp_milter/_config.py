"""The configuration: one TOML file, see smtp_milter.toml for what each line does."""

from __future__ import annotations

import enum
import socket
import tomllib
from pathlib import Path
from typing import Any, Literal

import attrs
import cattrs
from cattrs.v import format_exception

from smtp_milter._correlator import Way
from smtp_milter._dialogue import Tell


class ConfigError(Exception):
    """The file can't be used; the text says why."""


class OnFailure(enum.Enum):
    """What becomes of mail that no gateway has judged."""

    TEMPFAIL = "tempfail"
    ACCEPT = "accept"
    REJECT = "reject"


class Missing(enum.Enum):
    """What becomes of mail that the gateway has taken, and not handed on."""

    TEMPFAIL = "tempfail"
    ACCEPT = "accept"
    DISCARD = "discard"


class Foreign(enum.Enum):
    """What becomes of mail at the sink that nobody has sent to the gateway."""

    TEMPFAIL = "tempfail"
    RELAY = "relay"
    DISCARD = "discard"


@attrs.frozen(kw_only=True)
class GatewayConfig:
    """``[[gateway]]``."""

    address: str
    tell: Tell = Tell.AUTO
    received_line: bool = False
    connections: int = 20
    wait_for_connection: float = 2.0
    failures: int = 3
    rest: float = 30.0


@attrs.frozen(kw_only=True)
class SinkConfig:
    """``[sink]``."""

    listen: str
    allow: list[str] = attrs.field(factory=lambda: ["127.0.0.1", "::1"])
    known_by: list[Way] = attrs.field(factory=lambda: list(Way))
    mark: str = "X-SMTP-Milter-Mark"
    missing: Missing = Missing.TEMPFAIL
    foreign: Foreign = Foreign.TEMPFAIL
    relay_to: str = ""
    unclaimed: str = "unclaimed"
    remove_recipients: bool = False
    keep_trace: bool = False


@attrs.frozen(kw_only=True)
class AllowListConfig:
    """``[allow_list]``."""

    database: str
    patience: float = 3.0


@attrs.frozen(kw_only=True)
class Timeouts:
    """``[timeouts]``, in seconds."""

    connect: float = 5.0
    command: float = 8.0
    before_end: float = 20.0
    end: float = 250.0


@attrs.frozen(kw_only=True)
class Config:
    """The whole file."""

    gateway: list[GatewayConfig]
    listen: list[str] = attrs.field(factory=lambda: ["inet:127.0.0.1:8895"])
    mode: str = "660"
    name: str = attrs.field(factory=socket.getfqdn)
    connect: Literal["mail", "connect"] = "mail"
    on_failure: OnFailure = OnFailure.TEMPFAIL
    unscanned_header: str = ""
    hide_replies: bool = False
    smtputf8: OnFailure = OnFailure.REJECT
    eight_bit: Literal["send", "tempfail"] = "send"
    max_size: int = 32 * 1024 * 1024
    dry_run: bool = False
    metrics: str = ""
    timeouts: Timeouts = attrs.field(factory=Timeouts)
    sink: SinkConfig | None = None
    allow_list: AllowListConfig | None = None

    def __attrs_post_init__(self) -> None:
        if not self.gateway:
            raise ValueError("there is no [[gateway]]")
        if self.allow_list and self.connect == "connect":
            raise ValueError(
                'connect = "connect" and [allow_list] exclude each other: a gateway that refuses '
                "a client would refuse him for all recipients"
            )
        if self.unscanned_header and ":" not in self.unscanned_header:
            raise ValueError("unscanned_header is not of the form Name: value")
        if self.sink and self.sink.foreign is Foreign.RELAY and not self.sink.relay_to:
            raise ValueError('[sink] foreign = "relay" needs relay_to')
        try:
            int(self.mode, 8)
        except ValueError:
            raise ValueError(f"mode = {self.mode!r} is no octal number, such as 660") from None


_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


def _strict(value: Any, kind: type) -> Any:
    """TOML has types; a number in quotes is a mistake."""
    right = isinstance(value, int | float) if kind is float else isinstance(value, kind)
    if not right or (kind is not bool and isinstance(value, bool)):
        raise ValueError(f"{value!r} is no {kind.__name__}")
    return value


for _kind in (str, int, float, bool):
    _CONVERTER.register_structure_hook(_kind, _strict)


def _reason(error: BaseException, kind: type | None) -> str:
    """What is said of a value."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f"none of {', '.join(str(one.value) for one in kind)}"
    # Our own texts; those of KeyError and the like are only names.
    return str(error) if type(error) is ValueError else format_exception(error, kind)


def parse(text: str) -> Config:
    """A configuration from TOML. Raises ConfigError."""
    try:
        return _CONVERTER.structure(tomllib.loads(text), Config)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(error)) from None
    except cattrs.BaseValidationError as error:
        lines = cattrs.transform_error(error, path="file", format_exception=_reason)
        raise ConfigError("; ".join(lines)) from None


def load(path: Path) -> Config:
    """A configuration from a file. Raises ConfigError."""
    try:
        return parse(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def target(address: str) -> tuple[str, int] | Path:
    """Where to connect to: ``inet:host:port``, ``inet6:[host]:port`` or ``unix:/path``."""
    family, _, rest = address.partition(":")
    if family == "unix" and rest:
        return Path(rest)
    host, _, port = rest.rpartition(":")
    if family not in ("inet", "inet6") or not host or not port.isdecimal():
        raise ConfigError(f"{address!r} is not inet:host:port, inet6:[host]:port or unix:/path")
    return host.strip("[]"), int(port)
