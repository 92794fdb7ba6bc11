"""The manual's page of benchmarks: tables and charts that a run may write into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import log10
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "benchmarks.md"
COLOURS = ("#2563a8", "#8a8a8a", "#c2693c", "#5b9458", "#8a5fa6", "#b8992e", "#555555")


def put(name: str, text: str) -> None:
    """Replace what stands between the page's two marks of that name."""
    page = PAGE.read_text(encoding="utf-8")
    begin, end = f"% begin {name}\n", f"% end {name}\n"
    before, _, rest = page.partition(begin)
    _, mark, after = rest.partition(end)
    if not mark:
        raise SystemExit(f"{PAGE.name} has no place for {name}")
    PAGE.write_text(f"{before}{begin}\n{text}\n\n{end}{after}", encoding="utf-8")


def table(rows: Sequence[Sequence[str]]) -> str:
    """In Markdown; the first row has the heads."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---|" + "---:|" * (len(rows[0]) - 1), *lines[1:]])


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="sans-serif" font-size="12">\n<title>{escape(title)}</title>\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _text(x: float, y: float, text: str, anchor: str = "start", *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'


def _number(power: int) -> str:
    for least, letter in ((6, "M"), (3, "k"), (0, "")):
        if power >= least:
            return f"{10 ** (power - least)}{letter}"
    return f"{10.0**power:g}"


def bars(title: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """A bar for each value, shorter is better; `groups` by task, then by side.

    On a logarithmic scale, for some peers take a hundred times as long as others.
    """
    width, left, right, row = 760, 170, 70, 18
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    values = [value for group in groups.values() for value in group.values()]
    low = 10 ** (int(log10(min(values)) * 2 - 1) / 2)
    scale = (width - left - right) / log10(max(values) / low)
    parts = [_text(12, 22, title, bold=True)]
    y = 44
    for task, group in groups.items():
        parts.append(_text(12, y + 12, task, bold=True))
        y += row + 2
        for name, value in group.items():
            length = log10(value / low) * scale
            colour = COLOURS[names.index(name) % len(COLOURS)]
            parts += [
                _text(left - 8, y + 12, name, "end"),
                f'<path d="M{left} {y}h{length:.1f}v{row - 4}h-{length:.1f}z" fill="{colour}"/>',
                _text(left + length + 5, y + 12, f"{value:,.1f}"),
            ]
            y += row
        y += 8
    return _svg(width, y + 8, title, parts)


def lines(
    title: str, across: str, upwards: str, curves: Mapping[str, Sequence[tuple[float, float]]]
) -> str:
    """Curves on two logarithmic scales, where a straight line of slope 1 is linear growth."""
    width, height, left, top, right, bottom = 820, 420, 80, 44, 230, 48
    points = [point for curve in curves.values() for point in curve]
    (x0, x1), (y0, y1) = (
        (int(log10(min(values)) // 1), int(-(-log10(max(values)) // 1)))
        for values in ([x for x, _ in points], [y for _, y in points])
    )
    wide, high = (width - left - right) / (x1 - x0), (height - top - bottom) / (y1 - y0)

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (log10(x) - x0) * wide, height - bottom - (log10(y) - y0) * high

    parts = [_text(12, 22, title, bold=True)]
    for power in range(x0, x1 + 1):
        x, _ = place(10**power, 10**y0)
        parts.append(f'<path d="M{x:.1f} {top}V{height - bottom}" stroke="#dddddd"/>')
        parts.append(_text(x, height - bottom + 16, _number(power), "middle"))
    for power in range(y0, y1 + 1):
        _, y = place(10**x0, 10**power)
        parts.append(f'<path d="M{left} {y:.1f}H{width - right}" stroke="#dddddd"/>')
        parts.append(_text(left - 6, y + 4, _number(power), "end"))
    parts.append(_text((left + width - right) / 2, height - 12, across, "middle"))
    parts.append(_text(left - 6, top - 8, upwards, "middle"))
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in curve))
        style = f'fill="none" stroke="{colour}" stroke-width="2"'
        parts.append(f'<polyline points="{path}" {style}/>')
        y = top + 16 * number + 10
        parts.append(f'<path d="M{width - right + 12} {y - 4}h18" {style}/>')
        parts.append(_text(width - right + 36, y, name))
    return _svg(width, height, title, parts)
