"""Charts as SVG, by hand: bars for rows, lines for curves. Colours that can be read on light and on dark."""

from xml.sax.saxutils import escape

from harness.table import number

COLOURS = {
    "bare": "#8a8f98", "selio": "#e8590c", "tokio": "#3b82c4", "tokio-local": "#6aa5d8",
    "smol": "#2f9e6e", "monoio": "#9c6ade", "calloop": "#c2a000", "futures": "#b0708f",
    "monoio-uring": "#b99bea", "compio": "#5fb3b3",
}
STYLE = """\
<style>
text { font: 12px system-ui, sans-serif; fill: #3d444d }
.title { font-size: 13px; font-weight: 600 }
.small { font-size: 11px }
.selio { font-weight: 700 }
.axis { stroke: #8a8f98; stroke-width: 1; fill: none }
.grid { stroke: #8a8f98; stroke-opacity: .25; stroke-width: 1 }
@media (prefers-color-scheme: dark) { text { fill: #c9d1d9 } }
</style>"""

WIDTH = 840
COLUMNS = 2
LABEL = 118
BAR, GAP = 13, 4


def text(x, y, what, kind="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(str(what))}</text>'


def document(height, parts):
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
            f'viewBox="0 0 {WIDTH} {height:.0f}" role="img">')
    return "\n".join([head, STYLE, *parts, "</svg>"]) + "\n"


def bar_panel(row, peers, x, y, width):
    """Horizontal bars; one that is longer than six times selio's is cut, its figure tells."""
    parts = [text(x, y + 12, row.title.split(" (")[0] + (f", {row.unit}" if row.unit else ""), "title")]
    shown = [(peer, row.of(peer.name)) for peer in peers if row.of(peer.name) is not None]
    limit = min(max(value for _, value in shown), 6 * (row.of("selio") or 1))
    room = width - LABEL - 62
    top = y + 22
    for peer, value in shown:
        kind = "selio" if peer.name == "selio" else "small"
        length = max(1.0, min(value, limit) / limit * room)
        colour = COLOURS.get(peer.name, "#8a8f98")
        parts.append(text(x + LABEL - 6, top + BAR - 3, peer.name, kind, "end"))
        parts.append(f'<rect x="{x + LABEL:.1f}" y="{top:.1f}" width="{length:.1f}" height="{BAR}" '
                     f'rx="2" fill="{colour}"/>')
        if value > limit:
            cut = x + LABEL + room - 12
            parts.append(f'<path d="M{cut} {top + BAR} l5 -{BAR} h4 l-5 {BAR} z" fill="#fff" '
                         f'fill-opacity=".8"/>')
        parts.append(text(x + LABEL + length + 5, top + BAR - 3, number(value), kind))
        top += BAR + GAP
    return parts, top - y


def bars(rows, peers):
    """Panels side by side, a panel for each row that has values."""
    rows = [row for row in rows if row.of("selio") is not None]
    width = WIDTH / COLUMNS
    parts, y = [], 8.0
    for i in range(0, len(rows), COLUMNS):
        height = 0.0
        for column, row in enumerate(rows[i:i + COLUMNS]):
            panel, used = bar_panel(row, peers, column * width + 6, y, width - 12)
            parts += panel
            height = max(height, used)
        y += height + 18
    return document(y, parts)


def nice(top):
    """The next round number above, to end an axis at."""
    power = 1.0
    while power * 10 <= top:
        power *= 10
    while power > top:
        power /= 10
    return next(power * step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if power * step >= top)


def line_panel(curve, x, y, width, height):
    """Numbers of things along a logarithmic axis, values along a linear one that begins at zero. What
    rises beyond six times selio's greatest is cut off."""
    selio = [value for value in curve.series.get("selio", []) if value is not None]
    values = [value for line in curve.series.values() for value in line if value is not None]
    top = nice(min(max(values), 6 * max(selio, default=max(values))))
    left, right, bottom, head = x + 46, x + width - 84, y + height - 24, y + 24
    parts = [text(x, y + 12, f"{curve.title}, {curve.unit}", "title")]

    def place(i, value):
        across = left + (right - left) * i / (len(curve.numbers) - 1)
        return across, bottom - (bottom - head) * min(value, top) / top

    for step in range(5):
        level = bottom - (bottom - head) * step / 4
        parts.append(f'<path class="grid" d="M{left} {level:.1f} H{right}"/>')
        parts.append(text(left - 5, level + 4, number(top * step / 4) if step else "0", "small", "end"))
    for i, things in enumerate(curve.numbers):
        short = f"{things // 1_000_000}M" if things >= 1_000_000 else \
            f"{things // 1000}k" if things >= 1000 else things
        parts.append(text(place(i, 0)[0], bottom + 15, short, "small", "middle"))
    return parts + drawn_lines(curve, place, right, bottom, top)


def drawn_lines(curve, place, right, bottom, top):
    """The lines, and their names beside their ends, none on top of another; with the figure where the
    line is cut off."""
    parts, ends = [], []
    for name, line in curve.series.items():
        points = [place(i, value) for i, value in enumerate(line) if value is not None]
        if not points:
            continue
        colour = COLOURS.get(name, "#8a8f98")
        wide = 3 if name == "selio" else 1.8
        path = " ".join(f"{across:.1f},{up:.1f}" for across, up in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{wide}" '
                     f'stroke-linejoin="round"/>')
        last = [value for value in line if value is not None][-1]
        ends.append((last, points[-1][1], name, colour))
    below = bottom + 14
    for last, up, name, colour in sorted(ends):
        below = min(up + 4, below - 14)
        label = f"{name} {number(last)}" if last > top else name
        parts.append(f'<circle cx="{right + 9}" cy="{below - 4:.1f}" r="4" fill="{colour}"/>')
        parts.append(text(right + 17, below, label, "selio" if name == "selio" else "small"))
    return parts


def lines(curves):
    """Panels side by side, a panel for each curve."""
    width, height = WIDTH / COLUMNS, 220
    parts, y = [], 8.0
    for i in range(0, len(curves), COLUMNS):
        for column, curve in enumerate(curves[i:i + COLUMNS]):
            parts += line_panel(curve, column * width + 6, y, width - 12, height)
        y += height + 14
    return document(y, parts)
