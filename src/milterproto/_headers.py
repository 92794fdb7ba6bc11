"""The header of a message as a plain object: an ordered list of fields, each kept as it came."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias, cast, final

import attrs

from ._errors import LocalProtocolError

# The names and values that users write: str where they think in text, bytes where in mail.
Text: TypeAlias = bytes | str

_WHITE: Final = b" \t"


def bytes_of(attribute: str, value: Any) -> bytes:
    """Text is bytes, but a str is soon written."""
    if not isinstance(value, bytes):
        raise LocalProtocolError(f"{attribute}: {value!r} is no bytes")
    return value


def _header_bytes(value: Any) -> bytes:
    return bytes_of("headers", value)


def _field(value: Any) -> Field:
    if not isinstance(value, Field):
        raise LocalProtocolError(f"headers: {value!r} is no Field")
    return value


@final
@attrs.frozen
class Field:
    """One header field.

    ``name`` as it was written. ``raw`` is all that stands after the colon, to the byte: the blank
    that usually comes first, 8-bit text, folding as LF and the white space that follows it, and no
    line end.
    """

    name: bytes = attrs.field(converter=_header_bytes)
    raw: bytes = attrs.field(converter=_header_bytes)

    @classmethod
    def of(cls, name: Text, value: Text) -> Field:
        """A new field, with the usual blank after its colon.

        ``value`` as bytes is taken as it is; it may be folded with LF or CRLF. As str it may be
        any text: line ends and other control characters become blanks. ASCII stays as it is, and
        is folded at blanks; other text is encoded as RFC 2047 wants it, in fields of addresses
        and the like by the `email` package.
        Raises LocalProtocolError for a str that can't be a name, and for other text than ASCII
        where the field's syntax has no place for it, such as in a Date.
        """
        raw_name = _name(name)
        if isinstance(value, str):
            return cls(raw_name, _encoded(raw_name, value))
        return cls(raw_name, b" " + value.replace(b"\r\n", b"\n"))

    @property
    def value(self) -> bytes:
        """What the field says: on one line, without the white space around it."""
        return self.raw.replace(b"\n", b"").strip(_WHITE)

    @property
    def decoded(self) -> Any:
        """The value as the `email` package reads it: a str with encoded words decoded.

        Fields of addresses have ``addresses``, a Date has ``datetime``, and so on; see
        `email.headerregistry`. Never raises: what that package can't parse is plain text.
        """
        from email.headerregistry import HeaderRegistry  # noqa: PLC0415

        text = _unescaped(self.value)
        registry = HeaderRegistry()
        try:
            # Its own errors are documented, others have slipped out of it again and again.
            return registry(self.name.decode("ascii", "replace"), text)
        except Exception:  # noqa: BLE001
            harmless = text.replace("=?", "= ?")
            return HeaderRegistry(use_default_map=False)("unparsed", harmless)


@final
class Headers:
    """The fields of a header, in order: a list of `Field`, with look-ups by name.

    Names are compared without regard to case, and may be bytes or str. A list's own ways work by
    position: ``headers[0]``, ``headers[0] = Field(...)``, ``del headers[0]``, ``len(headers)``.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[Field] = ()) -> None:
        if not isinstance(fields, Iterable):
            raise LocalProtocolError(f"headers: {fields!r} is no list of Field")
        self._fields = [_field(one) for one in fields]

    def __len__(self) -> int:
        return len(self._fields)

    def __iter__(self) -> Iterator[Field]:
        return iter(self._fields)

    def __getitem__(self, index: int) -> Field:
        return self._fields[index]

    def __setitem__(self, index: int, field: Field) -> None:
        self._fields[index] = _field(field)

    def __delitem__(self, index: int) -> None:
        del self._fields[index]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, bytes | str) and bool(self.fields(name))

    def __eq__(self, other: object) -> bool:
        return self._fields == other._fields if isinstance(other, Headers) else NotImplemented

    # As all that can be edited.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Headers({self._fields!r})"

    # --- reading -------------------------------------------------------------------------

    def fields(self, name: Text) -> list[Field]:
        """All fields of that name, in order."""
        wanted = _name(name).lower()
        return [field for field in self._fields if field.name.lower() == wanted]

    def all(self, name: Text) -> list[bytes]:
        """The values of all fields of that name, each as `Field.value`."""
        return [field.value for field in self.fields(name)]

    def get(self, name: Text, default: bytes = b"") -> bytes:
        """The first value of that name, as `Field.value`."""
        return next(iter(self.all(name)), default)

    def text(self, name: Text, default: str = "") -> str:
        """The first value of that name, as `Field.decoded`."""
        fields = self.fields(name)
        return cast("str", fields[0].decoded) if fields else default

    # --- editing; what a value may be says Field.of -------------------------------------

    def set(self, name: Text, value: Text) -> None:
        """Let there be one field of that name: the first of them changes, all others go.

        If there is none it is appended.
        """
        field = Field.of(name, value)
        wanted = field.name.lower()
        places = [at for at, old in enumerate(self._fields) if old.name.lower() == wanted]
        if not places:
            self._fields.append(field)
            return
        self._fields[places[0]] = Field(self._fields[places[0]].name, field.raw)
        for at in reversed(places[1:]):
            del self._fields[at]

    def append(self, name: Text, value: Text) -> None:
        """Add a field at the end."""
        self._fields.append(Field.of(name, value))

    def insert(self, index: int, name: Text, value: Text) -> None:
        """Add a field before the one at ``index``, as `list.insert`; 0 is the top."""
        self._fields.insert(index, Field.of(name, value))

    def delete(self, name: Text) -> int:
        """Remove all fields of that name; how many there were."""
        before = len(self._fields)
        wanted = _name(name).lower()
        self._fields = [field for field in self._fields if field.name.lower() != wanted]
        return before - len(self._fields)

    def copy(self) -> Headers:
        """Another list of the same fields."""
        return Headers(self._fields)


def _name(name: Text) -> bytes:
    if isinstance(name, bytes):
        return name
    if not name.isascii():
        raise LocalProtocolError(f"{name!r} is no header name: they are ASCII")
    return name.encode()


# What can't stand in a header, and what some would take for a line end.
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LINE: Final = 78  # RFC 5322, 2.1.1


def _encoded(name: bytes, value: str) -> bytes:
    text = _CONTROLS.sub(" ", value)
    if text.isascii():
        return _folded(len(name) + 1, b" " + text.encode())
    from email.header import Header  # noqa: PLC0415
    from email.headerregistry import HeaderRegistry, UnstructuredHeader  # noqa: PLC0415

    as_text = name.decode("ascii", "replace")
    if issubclass(HeaderRegistry()[as_text], UnstructuredHeader):
        # Lone surrogates are no text.
        whole = text.encode("utf-8", "replace").decode()
        words = Header(whole, "utf-8", header_name=as_text).encode(linesep="\n")
        return b" " + words.encode()
    return _structured(name, as_text, text)


def _folded(column: int, raw: bytes) -> bytes:
    """With line ends before blanks, where a line would be too long; but not right at the start."""
    lines = [b""]
    for word in _WORD.findall(raw):
        if lines[-1] and column + len(word) > _LINE:
            lines.append(b"")
            column = 0
        lines[-1] += word
        column += len(word)
    return b"\n".join(lines)


_WORD: Final = re.compile(rb" *[^ ]+ *$| *[^ ]+| +$")


def _structured(name: bytes, as_text: str, text: str) -> bytes:
    from email.policy import EmailPolicy  # noqa: PLC0415

    policy = EmailPolicy(linesep="\n")
    try:
        folded = policy.fold(*policy.header_store_parse(as_text, text))
        raw: bytes = folded.encode("ascii").partition(b":")[2].removesuffix(b"\n")
    except Exception as exc:
        # Its own errors, and others that have slipped out of it over odd text.
        raise LocalProtocolError(f"{name!r} can't have this value: {text!r}") from exc
    # It leaves out what it can't parse.
    again = str(Field(name, raw).decoded)
    if _MISFOLDED.search(raw) or _SPACING.sub("", again) != _SPACING.sub("", text):
        raise LocalProtocolError(f"{name!r} can't have this value: {text!r}")
    return raw


_MISFOLDED: Final = re.compile(rb"^[^ \t]|\n[^ \t]|\n[ \t]*\n")
# Blanks and quotes it puts where it likes.
_SPACING: Final = re.compile(r'[\s"]')


def _unescaped(value: bytes) -> str:
    """UTF-8 is read as what it is (RFC 6532); other 8-bit text as the `email` package wants it."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("ascii", "surrogateescape")
