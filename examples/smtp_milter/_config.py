"""The configuration: one TOML file, see smtp_milter.toml for what each line does."""

from __future__ import annotations

import enum
import ipaddress
import math
import re
import socket
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args, get_origin

import attrs
import cattrs
from cattrs.v import format_exception

from smtp_milter._commands import is_helo
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


def target(address: str) -> tuple[str, int] | Path:
    """Where to connect to: ``inet:host:port``, ``inet6:[host]:port`` or ``unix:/path``.

    Raises ValueError for anything else.
    """
    family, _, rest = address.partition(":")
    if family == "unix" and rest:
        return Path(rest)
    host, _, port = rest.rpartition(":")
    if family not in ("inet", "inet6") or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{address!r} is not inet:host:port, inet6:[host]:port or unix:/path")
    return host.strip("[]"), int(port)


Validator: TypeAlias = Callable[[object, "attrs.Attribute[Any]", Any], None]

_FIELD_NAME: Final = re.compile(r"[!-9;-~]+")
_FIELD: Final = re.compile(r"[!-9;-~]+:[ -~]+")
_HOST_PORT: Final = re.compile(r".+:[0-9]{1,5}")


def _must(be: Callable[[Any], object], what: str) -> Validator:
    """A check at the start: what is wrong in the file is not to be found out by the mail."""

    def validate(_: object, field: attrs.Attribute[Any], value: Any) -> None:
        if not be(value):
            raise ValueError(f"{field.name} = {value!r} is no {what}")

    return validate


def _each(check: Callable[[str], object]) -> Validator:
    def validate(_: object, _field: object, values: list[str]) -> None:
        for one in values:
            check(one)

    return validate


def _address(_: object, _field: object, value: str) -> None:
    target(value)


_SECONDS: Final = _must(lambda value: 0 < value < math.inf, "number of seconds")
_COUNT: Final = _must(lambda value: value > 0, "number above 0")


@attrs.frozen(kw_only=True)
class GatewayConfig:
    """``[[gateway]]``."""

    address: str = attrs.field(validator=_address)
    tell: Tell = Tell.AUTO
    received_line: bool = False
    connections: int = attrs.field(default=20, validator=_COUNT)
    wait_for_connection: float = attrs.field(default=2.0, validator=_SECONDS)
    failures: int = attrs.field(default=3, validator=_COUNT)
    rest: float = attrs.field(default=30.0, validator=_SECONDS)


@attrs.frozen(kw_only=True)
class SinkConfig:
    """``[sink]``."""

    listen: str = attrs.field(validator=_address)
    allow: list[str] = attrs.field(
        factory=lambda: ["127.0.0.1", "::1"], validator=_each(ipaddress.ip_address)
    )
    known_by: list[Way] = attrs.field(
        factory=lambda: list(Way), validator=_must(bool, "list of at least one way")
    )
    mark: str = attrs.field(
        default="X-SMTP-Milter-Mark", validator=_must(_FIELD_NAME.fullmatch, "name of a field")
    )
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
    patience: float = attrs.field(default=3.0, validator=_SECONDS)


@attrs.frozen(kw_only=True)
class Timeouts:
    """``[timeouts]``, in seconds."""

    connect: float = attrs.field(default=5.0, validator=_SECONDS)
    command: float = attrs.field(default=8.0, validator=_SECONDS)
    before_end: float = attrs.field(default=20.0, validator=_SECONDS)
    end: float = attrs.field(default=250.0, validator=_SECONDS)


@attrs.frozen(kw_only=True)
class Config:
    """The whole file."""

    gateway: list[GatewayConfig]
    listen: list[str] = attrs.field(
        factory=lambda: ["inet:127.0.0.1:8895"],
        validator=[_must(bool, "list of at least one address"), _each(target)],
    )
    mode: str = "660"
    # Each gateway is greeted with it.
    name: str = attrs.field(
        factory=socket.getfqdn,
        validator=_must(lambda name: is_helo(name.encode()), "name of a host"),
    )
    connect: Literal["mail", "connect"] = "mail"
    on_failure: OnFailure = OnFailure.TEMPFAIL
    unscanned_header: str = attrs.field(
        default="",
        validator=_must(lambda text: not text or _FIELD.fullmatch(text), "field Name: value"),
    )
    hide_replies: bool = False
    smtputf8: OnFailure = OnFailure.REJECT
    eight_bit: Literal["send", "tempfail"] = "send"
    max_size: int = attrs.field(default=32 * 1024 * 1024, validator=_COUNT)
    dry_run: bool = False
    metrics: str = attrs.field(
        default="",
        validator=_must(lambda text: not text or _HOST_PORT.fullmatch(text), "host:port"),
    )
    timeouts: Timeouts = attrs.field(factory=Timeouts)
    sink: SinkConfig | None = None
    allow_list: AllowListConfig | None = None

    def __attrs_post_init__(self) -> None:
        if not self.gateway:
            raise ValueError("there is no [[gateway]]")
        ours = {*self.listen, self.sink.listen if self.sink else ""}
        for gateway in self.gateway:
            # The sink would take it all, and nobody would have judged it.
            if gateway.address in ours:
                raise ValueError(f"{gateway.address} is an address of ours, and of no gateway")
        if self.allow_list and self.connect == "connect":
            raise ValueError(
                'connect = "connect" and [allow_list] exclude each other: a gateway that refuses '
                "a client would refuse him for all recipients"
            )
        if self.sink and self.sink.foreign is Foreign.RELAY:
            if not self.sink.relay_to:
                raise ValueError('[sink] foreign = "relay" needs relay_to')
            target(self.sink.relay_to)
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

_LISTS: Final = {
    kind: _CONVERTER.get_structure_hook(kind)
    for kind in (list[str], list[Way], list[GatewayConfig])
}


def _list(value: Any, kind: Any) -> Any:
    """The letters of a text would make a list, too."""
    if not isinstance(value, list):
        brackets = "two pairs of brackets" if isinstance(value, dict) else "brackets"
        raise ValueError(f"{value!r} is no list: it needs {brackets}")  # noqa: TRY004 - see _reason
    return _LISTS[kind](value, kind)


_CONVERTER.register_structure_hook_func(lambda kind: kind in _LISTS, _list)


def _reason(error: BaseException, kind: type | None) -> str:
    """What is said of a value."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f"none of {', '.join(str(one.value) for one in kind)}"
    if get_origin(kind) is Literal:
        return f"none of {', '.join(get_args(kind))}"
    if isinstance(error, AttributeError):
        return "no table"
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
