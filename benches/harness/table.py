"""What was measured, row by row, and as a table."""

import statistics
from dataclasses import dataclass, field


@dataclass
class Row:
    """A line of a table: a value for each peer that has one. Less is better, always."""

    id: str
    title: str
    unit: str
    values: dict = field(default_factory=dict)
    # Where what was measured in one round belongs together, the values of each round.
    rounds: dict = field(default_factory=dict)

    def of(self, peer):
        return self.values.get(peer)

    def best(self, peers):
        """The peer that selio is measured against, and its value."""
        those = [(self.of(peer.name), peer) for peer in peers if peer.kind == "epoll"]
        those = [(value, peer) for value, peer in those if value is not None]
        return min(those, key=lambda pair: pair[0], default=(None, None))

    def settle(self):
        """Takes the median of the rounds."""
        self.values = {name: statistics.median(values) for name, values in self.rounds.items()}
        return self

    def ratio(self, peer, base):
        """One to the other, within a round where there are rounds."""
        if not self.of(base) or self.of(peer) is None:
            return None
        if base in self.rounds:
            pairs = zip(self.rounds[peer], self.rounds[base])
            return statistics.median(one / other for one, other in pairs)
        return self.of(peer) / self.of(base)


@dataclass
class Table:
    """A part of the results: rows, and what is to be known about them."""

    title: str
    notes: str
    rows: list


def number(value):
    """Three digits that count."""
    if value is None:
        return "—"
    if value >= 100 or isinstance(value, int):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def markdown(table, peers):
    """The table, the rows where selio is behind marked like the others: by their ratio."""
    shown = [peer for peer in peers if any(row.of(peer.name) is not None for row in table.rows)]
    others = [peer for peer in shown if peer.kind not in ("bare", "selio")]
    head = ["", "bare", "selio", "selio / bare", "best of epoll", "selio / best"]
    head += [peer.title for peer in others]
    lines = [head, ["---"] + ["--:"] * (len(head) - 1)]
    for row in table.rows:
        best, who = row.best(peers)
        lines.append([
            f"{row.title}, {row.unit}" if row.unit else row.title,
            number(row.of("bare")),
            f"**{number(row.of('selio'))}**",
            number(row.ratio("selio", "bare")),
            f"{number(best)} {who.name}" if who else "—",
            number(row.ratio("selio", who.name) if who else None),
            *(number(row.of(peer.name)) for peer in others),
        ])
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"## {table.title}\n\n{text}\n\n{table.notes}\n".replace("\n\n\n", "\n\n")


@dataclass
class Curve:
    """A value for each of several numbers of things, for some of the peers."""

    id: str
    title: str
    unit: str
    numbers: list
    series: dict = field(default_factory=dict)


def curve_markdown(curve):
    lines = [[f"{curve.title}, {curve.unit}", *(f"{n:,}" for n in curve.numbers)]]
    lines.append(["---"] + ["--:"] * len(curve.numbers))
    for name, values in curve.series.items():
        shown = [number(value) for value in values]
        lines.append([name, *(f"**{value}**" for value in shown)] if name == "selio" else [name, *shown])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
