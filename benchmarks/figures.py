"""What a benchmark finds: pairs measured in turn, kept in docs/performance.json, from which the page is written."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

KEPT = Path(__file__).resolve().parent.parent / "docs" / "performance.json"
PAIRS = 5


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Something of ours beside something of theirs. What counts is the median of the ratios, ours to theirs, of pairs
    that were measured in turn; it is to be at least `goal`, or at most where `at_most`. `goal` is None where nothing is
    promised."""

    name: str
    what: str
    ours: str
    theirs: str
    pairs: list[tuple[float, float]]
    goal: float | None = None
    at_most: bool = False

    @property
    def ratio(self) -> float:
        return statistics.median(ours / theirs for ours, theirs in self.pairs)

    @property
    def holds(self) -> bool:
        return self.goal is None or (self.ratio <= self.goal if self.at_most else self.ratio >= self.goal)


def in_turn(ours: Callable[[], float], theirs: Callable[[], float], times: int = PAIRS) -> list[tuple[float, float]]:
    """Pairs of what two measurements return; each goes first every other time, after one of each to warm up."""
    ours(), theirs()
    pairs = []
    for turn in range(times):
        if turn % 2:
            there = theirs()
            pairs.append((ours(), there))
        else:
            pairs.append((ours(), theirs()))
    return pairs


def record(figure: Figure) -> None:
    """Prints a figure and keeps it in the place of an earlier one of its name."""
    print(f"\n{figure.what}\n{figure.ours:>24} {figure.theirs:>24} {'ratio':>8}")
    for ours, theirs in figure.pairs:
        print(f"{ours:24,.2f} {theirs:24,.2f} {ours / theirs:8.2f}")
    goal = "" if figure.goal is None else f", goal {'at most' if figure.at_most else 'at least'} {figure.goal}"
    print(f"median ratio {figure.ratio:.2f}{goal}{'' if figure.holds else ': MISSED'}", flush=True)
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    kept[figure.name] = asdict(figure)
    KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
