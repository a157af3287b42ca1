"""Writes the tables of docs/performance.md, and its picture, from docs/performance.json.

The page itself is written by hand. What stands between a mark and the next `<!-- end -->` is written here:
`<!-- overview -->`, `<!-- machine -->`, and `<!-- figures: issue, drain* -->` for the figures of such names.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import statistics
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from django.template import Context, Engine

from benchmarks.figures import KEPT, Figure, recorded

PAGE = KEPT.with_suffix(".md")
PICTURE = KEPT.with_suffix(".svg")
MARKED = re.compile(r"<!-- (?P<what>overview|machine|figures: [^>]+) -->\n.*?<!-- end -->", re.DOTALL)
NOTHING = "Not measured yet: `make bench`.\n"

# The picture, in pixels. A bar begins at the goal; its end is as many doublings away as the figure is from it.
DOUBLING = 110
SHOWN = range(-3, 5)  # doublings; what is further away ends at the edge
GOAL_X = 24 - SHOWN[0] * DOUBLING
TOP, ROW = 96, 44


def filled(page: str, figures: Sequence[Figure]) -> str:
    """The page with everything between its marks written anew."""
    placed = in_order(page, figures)

    def written(mark: re.Match[str]) -> str:
        what = mark["what"]
        if what == "overview":
            text = overview(placed)
        elif what == "machine":
            text = machines(placed)
        else:
            text = "\n".join(table(figure) for figure in named(what, figures)) or NOTHING
        return f"<!-- {what} -->\n\n{text}\n<!-- end -->"

    return MARKED.sub(written, page)


def named(mark: str, figures: Sequence[Figure]) -> list[Figure]:
    """The figures of a mark, in its order."""
    patterns = [pattern.strip() for pattern in mark.partition(":")[2].split(",")]
    return [figure for pattern in patterns for figure in figures if fnmatchcase(figure.name, pattern)]


def in_order(page: str, figures: Sequence[Figure]) -> list[Figure]:
    """Every figure that has a place on the page, in the page's order."""
    placed = (figure for mark in MARKED.finditer(page) for figure in named(mark["what"], figures))
    return list({figure.name: figure for figure in placed}.values())


def overview(figures: Sequence[Figure]) -> str:
    if not figures:
        return NOTHING
    rows = [
        f"| {headline(figure)} | {figure.ours}: {middle(figure, 0)} | {figure.theirs}: {middle(figure, 1)} "
        f"| {number(figure.ratio)} | {figure.goal_in_words} | {verdict(figure)} |\n"
        for figure in figures
    ]
    return "".join(["| what | ours | beside | ratio | goal | |\n|---|---|---|---|---|---|\n", *rows])


def machines(figures: Sequence[Figure]) -> str:
    """What all of it was measured on, and when: one line, unless figures are of different machines."""
    on: dict[str, list[Figure]] = {}
    for figure in figures:
        on.setdefault(figure.machine, []).append(figure)
    lines = {machine: f"{machine}, {' and '.join(days(its))}" for machine, its in on.items()}
    if len(on) < 2:
        return "".join(f"{line}.\n" for line in lines.values()) or NOTHING
    return "".join(f"- {lines[machine]}: {', '.join(figure.name for figure in its)}.\n" for machine, its in on.items())


def days(figures: Sequence[Figure]) -> list[str]:
    """When they were measured, the first day first."""
    return sorted({figure.day for figure in figures}, key=_date)


def _date(day: str) -> dt.datetime:
    return dt.datetime.strptime(day, "%d %B %Y").replace(tzinfo=dt.UTC)


def table(figure: Figure) -> str:
    rows = [f"| {number(ours)} | {number(theirs)} | {number(ours / theirs)} |\n" for ours, theirs in figure.pairs]
    goal = f"; the goal is {figure.goal_in_words}: {verdict(figure)}" if figure.goal is not None else ""
    parts = [
        f"{headline(figure)}:\n\n| {figure.ours} | {figure.theirs} | ratio |\n|---|---|---|\n",
        *rows,
        f"\nMedian ratio **{number(figure.ratio)}**{goal}.\n",
        f"\n{figure.detail.strip()}\n" if figure.detail else "",
    ]
    return "".join(parts)


def headline(figure: Figure) -> str:
    return figure.what[:1].upper() + figure.what[1:]


def verdict(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    return "holds" if figure.holds else "**missed**"


def middle(figure: Figure, side: int) -> str:
    return number(statistics.median(pair[side] for pair in figure.pairs))


def number(value: float) -> str:
    """With as many places as are worth reading."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def picture(figures: Sequence[Figure]) -> str:
    """A bar for each figure that has a goal, from the goal to what was measured."""
    rows = [row(figure, TOP + ROW * n) for n, figure in enumerate(f for f in figures if f.goal is not None)]
    ticks = [
        {"x": str(GOAL_X + n * DOUBLING), "label": f"{2**n}x" if n > 0 else f"1/{2**-n}" if n else "goal"}
        for n in SHOWN
    ]
    end = TOP + ROW * len(rows)
    sizes = {"width": GOAL_X + SHOWN[-1] * DOUBLING + 24, "height": end + 12, "end": end, "goal_x": GOAL_X}
    context = {name: str(size) for name, size in sizes.items()} | {"rows": rows, "ticks": ticks}
    template = Engine(dirs=[str(Path(__file__).parent)]).get_template("picture.svg")
    return template.render(Context(context, use_l10n=False))


def row(figure: Figure, top: int) -> dict[str, str]:
    assert figure.goal is not None  # noqa: S101  # for mypy: the others are not drawn
    better = figure.goal / figure.ratio if figure.at_most else figure.ratio / figure.goal
    length = round(DOUBLING * min(max(math.log2(better), SHOWN[0]), SHOWN[-1]))
    return {
        "what": headline(figure),
        "found": f"{number(figure.ratio)}, goal {figure.goal_in_words}",
        "kind": "holds" if figure.holds else "missed",
        "x": str(GOAL_X + min(length, 0)),
        "width": str(max(abs(length), 2)),
        "text_y": str(top + 14),
        "y": str(top + 21),
    }


def main() -> None:
    figures = recorded()
    page = PAGE.read_text()
    placed = in_order(page, figures)
    PAGE.write_text(filled(page, figures))
    PICTURE.write_text(picture(placed))
    print(f"Written: {PAGE.name} and {PICTURE.name}, {len(placed)} figures.")
    if missed := [figure.what for figure in placed if not figure.holds]:
        print("\n  ".join(["Goals missed:", *missed]))
    if lost := {figure.name for figure in figures} - {figure.name for figure in placed}:
        raise SystemExit(f"{PAGE.name} has no place for: {', '.join(sorted(lost))}")


if __name__ == "__main__":
    main()
