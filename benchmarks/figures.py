"""What a benchmark finds: pairs measured in turn, kept in docs/performance.json, from which the page is written."""

from __future__ import annotations

import datetime as dt
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.machine import machine

KEPT = Path(__file__).resolve().parent.parent / "docs" / "performance.json"
PAIRS = 5


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Something of ours beside something of theirs. What counts is the median of the ratios, ours to theirs, of pairs
    that were measured in turn; it is to be at least `goal`, or at most where `at_most`. `goal` is None where nothing is
    promised.

    `what` is the phrase over its table and in the picture, `ours` and `theirs` are the heads of its columns, such as
    "issues/s". `detail` is Markdown that stands below the table. The machine and the day are noted by `record`.
    """

    name: str
    what: str
    ours: str
    theirs: str
    pairs: list[tuple[float, float]]
    goal: float | None = None
    at_most: bool = False
    detail: str = ""
    machine: str = ""
    day: str = ""

    @property
    def ratio(self) -> float:
        return statistics.median(ours / theirs for ours, theirs in self.pairs)

    @property
    def holds(self) -> bool:
        return self.goal is None or (self.ratio <= self.goal if self.at_most else self.ratio >= self.goal)

    @property
    def goal_in_words(self) -> str:
        return "" if self.goal is None else f"{'at most' if self.at_most else 'at least'} {self.goal:g}"


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


def record(figure: Figure, file: Path = KEPT) -> None:
    """Prints a figure and keeps it in the place of an earlier one of its name."""
    print(f"\n{figure.what}\n{figure.ours:>24} {figure.theirs:>24} {'ratio':>8}")
    for ours, theirs in figure.pairs:
        print(f"{ours:24,.2f} {theirs:24,.2f} {ours / theirs:8.2f}")
    goal = f", goal {figure.goal_in_words}" if figure.goal is not None else ""
    print(f"median ratio {figure.ratio:.2f}{goal}{'' if figure.holds else ': MISSED'}")
    if figure.detail:
        print(figure.detail)
    sys.stdout.flush()
    kept = {one.name: one for one in recorded(file)}
    kept[figure.name] = replace(figure, machine=machine(), day=f"{dt.datetime.now(dt.UTC):%-d %B %Y}")
    as_json = {name: asdict(one) for name, one in kept.items()}
    file.write_text(json.dumps(as_json, indent=1, sort_keys=True) + "\n")


def recorded(file: Path = KEPT) -> list[Figure]:
    """All that was found so far."""
    return [Figure(**figure) for figure in json.loads(file.read_text()).values()] if file.exists() else []
