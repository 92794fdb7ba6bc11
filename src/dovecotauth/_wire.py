"""One line <-> one event, once the handshake is over. `minor` is what both sides have."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from typing import Final

from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import (
    AUTHZ_FAIL,
    INVALID_BASE64,
    PASS_EXPIRED,
    TEMP_FAIL,
    USER_DISABLED,
    Auth,
    Cancel,
    Cancelled,
    Cont,
    Fail,
    Malformed,
    Ok,
    Parameters,
    value_of,
)
from ._fields import (
    decode_base64,
    decode_number,
    decode_parameters,
    encode_base64,
    encode_number,
    encode_parameters,
    encode_text,
    unescape,
)
from ._handshake import CHANNEL_BINDING, EMPTY_RESPONSE, FAIL_CODES, check_mechanism

# Dovecot's AUTH_CLIENT_MAX_LINE_LENGTH, with the LF; its old documents said 8192.
MAX_LINE: Final = 16384
# Exim's buffer holds 8192 bytes, of which one is a NUL, and cuts a line into 16 fields. It
# announces 1.0, as Postfix does.
MAX_LINE_TO_1_0: Final = 8191
MAX_FIELDS_TO_1_0: Final = 16

OLD_FLAGS: Final[Mapping[bytes, bytes]] = {
    b"temp": TEMP_FAIL,
    b"authz": AUTHZ_FAIL,
    b"user_disabled": USER_DISABLED,
    b"pass_expired": PASS_EXPIRED,
}
"""What was written before 1.2 in place of ``code=``; both are read always."""
_TO_OLD: Final = {code: flag for flag, code in OLD_FLAGS.items()}
_CODE: Final = re.compile(rb"[a-z0-9_]+")

_AUTH_FIELDS: Final = frozenset({b"resp"})
_OK_FIELDS: Final = frozenset({b"user", b"resp"})
_FAIL_FIELDS: Final = frozenset({b"user", b"code", b"reason", b"resp", *OLD_FLAGS})

# What Dovecot answers in each case, word for word, so that nobody can tell us from it.
_NO_BASE64_AUTH: Final = b"Invalid base64 data in initial response"
_NO_BASE64_CONT: Final = b"Invalid base64 data in continued response"
UNKNOWN_ID: Final = b"Authentication request timed out"
UNEXPECTED: Final = b"Unexpected continuation"


# --- what a client sends -------------------------------------------------------------------


def encode_auth(event: Auth, minor: int) -> bytes:
    """The AUTH line; ``resp=`` comes last, for the server takes nothing after it."""
    check_mechanism(event.mechanism)
    words = [b"AUTH", encode_number(event.id, "an id"), event.mechanism]
    words += encode_parameters(event.parameters, _AUTH_FIELDS)
    # Not by its new name alone: Dovecot takes the old one always, the new one from 2.4 on.
    if not value_of(event.parameters, b"service"):
        raise LocalProtocolError("a request needs its service: Dovecot disconnects if it has none")
    if event.response is not None:
        # A server below 1.2 takes an empty one for none at all.
        empty = b"" if minor >= EMPTY_RESPONSE else b"="
        words.append(b"resp=" + (encode_base64(event.response) or empty))
    return _line(words, MAX_LINE)


def decode_auth(
    words: list[bytes], line: bytes, minor: int, offered: Container[bytes]
) -> Auth | Malformed:
    """An AUTH line. RemoteProtocolError for what ends the connection with Dovecot, too."""
    if len(words) < 3:
        raise RemoteProtocolError("an AUTH without id or mechanism")
    number, mechanism = decode_number(words[1], "an id"), words[2].upper()
    if mechanism not in offered:
        raise RemoteProtocolError("an AUTH with a mechanism that was not offered")
    parameters = words[3:]
    encoded: bytes | None = None
    if parameters:
        name, _, value = unescape(parameters[-1]).partition(b"=")
        if name == b"resp":
            encoded = value
            del parameters[-1]
    fields = decode_parameters(parameters)
    names = {name for name, _ in fields}
    if b"resp" in names:
        raise RemoteProtocolError("an AUTH with something after its resp")
    if b"service" not in names and b"protocol" not in names:
        raise RemoteProtocolError("an AUTH without service")
    if encoded is None or (encoded == b"" and minor < EMPTY_RESPONSE):
        return Auth(number, mechanism, fields)
    response = _decode_response(encoded)
    if response is None:
        reply = Fail(number, code=INVALID_BASE64, reason=_NO_BASE64_AUTH)
        return Malformed(line, "the initial response is no base64", reply)
    return Auth(number, mechanism, fields, response)


def _decode_response(encoded: bytes) -> bytes | None:
    """Of ``resp=``; a single "=" is SASL's way to write an empty one."""
    return b"" if encoded == b"=" else decode_base64(encoded)


def encode_client_cont(event: Cont, minor: int) -> bytes:
    """The CONT line with a response."""
    return _line([*_cont_words(event, minor), *_bound(event, encode_base64)], MAX_LINE)


def decode_client_cont(words: list[bytes], line: bytes, minor: int) -> Cont | Malformed:
    """A CONT line with a response. A missing TAB before the data is fatal with Dovecot."""
    number = id_of(words)
    if len(words) < 3:
        raise RemoteProtocolError("a CONT without data")
    binding = None
    data = decode_base64(words[2])
    good = data is not None
    if minor >= CHANNEL_BINDING:
        encoded = value_of(decode_parameters(words[3:]), b"channel_binding")
        binding = None if encoded is None else decode_base64(encoded)
        good = (good or (words[2] == b"#" and encoded is not None)) and (
            encoded is None or binding is not None
        )
    elif len(words) > 3:
        # Before 1.3 the rest of the line is the data, and a TAB is no base64.
        good = False
    if not good:
        reply = Fail(number, code=INVALID_BASE64, reason=_NO_BASE64_CONT)
        return Malformed(line, "the response is no base64", reply)
    return Cont(number, data, binding)


def id_of(words: list[bytes]) -> int:
    """The id in a line."""
    if len(words) < 2:
        raise RemoteProtocolError("a line without id")
    return decode_number(words[1], "an id")


def encode_cancel(event: Cancel) -> bytes:
    """The CANCEL line."""
    return b"CANCEL\t%b\n" % encode_number(event.id, "an id")


def decode_cancel(words: list[bytes]) -> Cancel:
    """A CANCEL line."""
    return Cancel(_only_id(words))


# --- what a server sends -------------------------------------------------------------------


def encode_server_cont(event: Cont, minor: int) -> bytes:
    """The CONT line with a challenge."""
    return _reply([*_cont_words(event, minor), *_bound(event, encode_text)], minor)


def decode_server_cont(words: list[bytes], minor: int) -> Cont:
    """A CONT line with a challenge; before 1.3 there is nothing but data in it."""
    number = id_of(words)
    if len(words) < 3:
        raise RemoteProtocolError("a CONT without data")
    fields = decode_parameters(words[3:]) if minor >= CHANNEL_BINDING else ()
    binding = value_of(fields, b"channel_binding")
    data = decode_base64(words[2])
    if data is None and (words[2] != b"#" or binding is None):
        raise RemoteProtocolError("a challenge that is no base64")
    return Cont(number, data, binding)


def encode_ok(event: Ok, minor: int) -> bytes:
    """The OK line, with ``user=`` first, where even Exim finds it."""
    if not event.user:
        raise LocalProtocolError("an Ok names its user: Postfix and Exim take it for broken")
    words = [b"OK", encode_number(event.id, "an id"), _to_postfix(b"user=", event.user, minor)]
    words += encode_parameters(event.fields, _OK_FIELDS)
    words += _response(event.response)
    return _reply(words, minor)


def decode_ok(words: list[bytes], _minor: int) -> Ok:
    """An OK line."""
    number = id_of(words)
    if len(words) == 3 and words[2].startswith(b"user=") and b"\x01" not in words[2]:
        # Nearly every OK, in half the time.
        users: list[bytes | None] = [words[2][5:]]
        fields: Parameters = ()
    else:
        fields = decode_parameters(words[2:])
        users = [value for name, value in fields if name == b"user"]
    if len(users) != 1 or not users[0]:
        # Postfix takes the last of two, and Exim the first.
        raise RemoteProtocolError("an OK that does not name one user")
    return Ok(number, users[0], _others(fields, _OK_FIELDS), _last_word(fields))


def encode_fail(event: Fail, minor: int) -> bytes:
    """The FAIL line, in the form that the client's version has."""
    words = [b"FAIL", encode_number(event.id, "an id")]
    if event.user:
        words.append(_to_postfix(b"user=", event.user, minor))
    if event.code:
        if not _CODE.fullmatch(event.code):
            raise LocalProtocolError("a code is lower-case letters, digits and '_'")
        old = _TO_OLD.get(event.code) if minor < FAIL_CODES else None
        words.append(old or b"code=" + event.code)
    if event.reason:
        words.append(_to_postfix(b"reason=", event.reason, minor))
    words += encode_parameters(event.fields, _FAIL_FIELDS)
    words += _response(event.response)
    return _reply(words, minor)


def decode_fail(words: list[bytes], _minor: int) -> Fail:
    """A FAIL line, in its old form or its new one."""
    number, fields = id_of(words), decode_parameters(words[2:])
    values = dict(fields)
    flags = [OLD_FLAGS[name] for name, value in fields if name in OLD_FLAGS and value is None]
    return Fail(
        number,
        values.get(b"user") or b"",
        values.get(b"code") or b"".join(flags[:1]),
        values.get(b"reason") or b"",
        _others(fields, _FAIL_FIELDS),
        _last_word(fields),
    )


def encode_cancelled(event: Cancelled, _minor: int) -> bytes:
    """The CANCELLED line."""
    return b"CANCELLED\t%b\n" % encode_number(event.id, "an id")


def decode_cancelled(words: list[bytes], _minor: int) -> Cancelled:
    """A CANCELLED line."""
    return Cancelled(_only_id(words))


# --- what they share -----------------------------------------------------------------------


def _only_id(words: list[bytes]) -> int:
    if len(words) > 2:
        raise RemoteProtocolError("a line that should have an id and no more")
    return id_of(words)


def _cont_words(event: Cont, minor: int) -> list[bytes]:
    if event.channel_binding is not None and minor < CHANNEL_BINDING:
        raise LocalProtocolError("channel binding needs 1.3 on both sides")
    if event.data is None and event.channel_binding is None:
        raise LocalProtocolError("a Cont without data is for channel binding")
    data = b"#" if event.data is None else encode_base64(event.data)
    return [b"CONT", encode_number(event.id, "an id"), data]


def _bound(event: Cont, encode: Callable[[bytes], bytes]) -> list[bytes]:
    binding = event.channel_binding
    return [] if binding is None else [b"channel_binding=" + encode(binding)]


def _others(fields: Parameters, known: frozenset[bytes]) -> Parameters:
    return tuple([pair for pair in fields if pair[0] not in known])


def _last_word(fields: Parameters) -> bytes | None:
    """What the ``resp`` of an OK or a FAIL stands for."""
    encoded = value_of(fields, b"resp")
    if encoded is None:
        return None
    response = _decode_response(encoded)
    if response is None:
        raise RemoteProtocolError("a reply whose resp is no base64")
    return response


def _response(response: bytes | None) -> list[bytes]:
    return [] if response is None else [b"resp=" + encode_base64(response)]


def _to_postfix(name: bytes, text: bytes, minor: int) -> bytes:
    """A field that Postfix reads; it undoes no escapes, so that there must be none."""
    word = encode_text(text)
    if minor == 0 and word != text:
        raise LocalProtocolError(
            "a user's name or a reason with TAB, CR, LF or 0x01 can't be sent to a client of "
            "version 1.0: Postfix would read it as something else"
        )
    return name + word


def _reply(words: list[bytes], minor: int) -> bytes:
    if minor == 0 and len(words) > MAX_FIELDS_TO_1_0:
        raise LocalProtocolError("more than 16 fields can't be sent to a client of version 1.0")
    return _line(words, MAX_LINE if minor else MAX_LINE_TO_1_0)


def _line(words: list[bytes], limit: int) -> bytes:
    line = b"\t".join(words) + b"\n"
    if len(line) > limit:
        raise LocalProtocolError(f"the line has {len(line)} bytes, and the peer takes {limit}")
    return line
