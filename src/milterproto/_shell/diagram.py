"""A session as a picture: a sequence diagram, as SVG."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final
from xml.sax.saxutils import escape

from milterproto._events import ConnectionClosed, Macros
from milterproto._shell.stages import BAD, EDIT, GOOD, LATER, PLAIN, QUIET, Stage, stages, style_of
from milterproto._shell.transcript import Entry
from milterproto._shell.words import shown, words

_WIDTH: Final = 820
_MTA: Final = 60
_FILTER: Final = 760
_ROW: Final = 30
_LINE: Final = 14
_NOTE: Final = 16
_COLOURS: Final[Mapping[str, str]] = {
    GOOD: "#2e7d32",
    BAD: "#c62828",
    LATER: "#b26a00",
    EDIT: "#1565c0",
    QUIET: "#777777",
    PLAIN: "#222222",
}
# As many characters as have room between the two, in capital letters and a wide font.
_MAX_TEXT: Final = 80
_MAX_LINES: Final = 6
_MORE: Final = "…"


class _Picture:
    """Rows, from top to bottom."""

    def __init__(self) -> None:
        self.y = 0
        self.parts: list[str] = []

    def heading(self, text: str) -> None:
        self.y += _ROW + 4
        self._text(_WIDTH // 2, self.y, text, PLAIN, "middle", size=14)

    def ends(self) -> None:
        self.y += _ROW
        for x, name in ((_MTA, "MTA"), (_FILTER, "filter")):
            self.parts.append(
                f'<rect x="{x - 40}" y="{self.y - 15}" width="80" height="22" rx="4" '
                'fill="#eef4ff" stroke="#3b6fb6"/>'
            )
            self._text(x, self.y, name, PLAIN, "middle", size=14)

    def lines(self, top: int) -> None:
        for x in (_MTA, _FILTER):
            self.parts.insert(
                0,
                f'<line x1="{x}" y1="{top}" x2="{x}" y2="{self.y + 12}" stroke="#bbbbbb" '
                'stroke-dasharray="4 3"/>',
            )

    def arrow(self, text: str, style: str, *, to_filter: bool) -> None:
        start, end = (_MTA, _FILTER) if to_filter else (_FILTER, _MTA)
        at, anchor = (start + 10, "start") if to_filter else (start - 10, "end")
        self.y += _ROW - _LINE
        for line in _lines(text):
            self.y += _LINE
            self._text(at, self.y - 5, line, style, anchor)
        step = 8 if to_filter else -8
        colour = _COLOURS[style]
        self.parts.append(
            f'<path d="M{start} {self.y}H{end}m{-step} -4l{step} 4l{-step} 4" fill="none" '
            f'stroke="{colour}"/>'
        )

    def note(self, text: str) -> None:
        for line in _lines(text):
            self.y += _NOTE
            self._text(_MTA + 10, self.y, line, QUIET, "start", size=10)

    def _text(
        self,
        x: int,
        y: int,
        text: str,
        style: str,
        anchor: str,
        *,
        size: int = 12,
    ) -> None:
        self.parts.append(
            f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" '
            f'fill="{_COLOURS[style]}">{escape(text)}</text>'
        )


def _lines(text: str) -> list[str]:
    return textwrap.wrap(text, _MAX_TEXT, max_lines=_MAX_LINES, placeholder=_MORE)


def diagram(entries: Iterable[Entry]) -> str:
    """The picture of a transcript, connection by connection."""
    by_connection = sorted(entries, key=lambda entry: entry.connection)
    picture = _Picture()
    for number, group in groupby(by_connection, key=lambda entry: entry.connection):
        picture.heading(f"connection {number}")
        picture.ends()
        top = picture.y + 7
        _session(picture, stages(group))
        picture.lines(top)
        picture.y += 12
    height = picture.y + 16
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" font-family="Helvetica, Arial, sans-serif">'
    )
    background = '<rect width="100%" height="100%" fill="white"/>'
    whole = "\n".join([head, background, *picture.parts, "</svg>\n"])
    # Whatever a terminal's encoding is, XML without a declaration is UTF-8.
    return whole.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _session(picture: _Picture, found: Sequence[Stage]) -> None:
    for stage in found:
        if stage.commands:
            closed = stage.commands == [ConnectionClosed()]
            picture.arrow(stage.title, QUIET if closed else PLAIN, to_filter=True)
        if names := _names(stage.macros):
            picture.note(f"macros: {names}")
        for answer in stage.answers:
            # One arrow stands for the answers to all of them.
            times = f" ({len(stage.commands)} times)" if len(stage.commands) > 1 else ""
            picture.arrow(words(answer) + times, style_of(answer), to_filter=False)


def _names(macros: Iterable[Macros]) -> str:
    names = [shown(name) for frame in macros for name in frame.values]
    return ", ".join(dict.fromkeys(names))
