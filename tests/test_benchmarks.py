"""The benchmarks' own tools: the clients, and the page that is written from what they find."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.figures import Figure, record, recorded
from benchmarks.load import call_all, request
from benchmarks.report import filled, in_order, picture

PAGE = """# How fast

<!-- machine -->
stale
<!-- end -->

<!-- overview -->
stale
<!-- end -->

By hand.

<!-- figures: issue, drain* -->
stale
<!-- end -->
"""


class Answering(socketserver.StreamRequestHandler):
    """Answers each request on a connection with its own body, in two parts."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        while self.rfile.readline():
            length = 0
            while line := self.rfile.readline().strip():
                name, _, value = line.partition(b":")
                length = int(value) if name == b"Content-Length" else length
            body = self.rfile.read(length)
            self.wfile.write(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n" % len(body))
            self.wfile.write(body)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 16  # as many as come at once, or the last of them try again a second later


@pytest.fixture
def port() -> Iterator[int]:
    with Server(("127.0.0.1", 0), Answering) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield server.server_address[1]
        server.shutdown()
        serving.join()


def figure(name: str = "issue", goal: float | None = 0.4, *, at_most: bool = False, ratio: float = 0.5) -> Figure:
    pairs = [(1_000 * ratio, 1_000.0), (1.0, 1_000.0), (900.0, 1_000.0)]
    return measured(
        Figure(
            name=name,
            what=f"calls of <{name}>",
            ours="issues/s",
            theirs="empty/s",
            pairs=pairs,
            goal=goal,
            at_most=at_most,
        )
    )


def measured(figure: Figure) -> Figure:
    """As `record` keeps it."""
    return replace(figure, machine="2 cores", day="1 December 2026")


def test_clients_send_every_request_and_time_each(port: int) -> None:
    load = call_all(port, [request("POST", "/", b"x" * size) for size in range(100)], status=201, clients=4)
    assert len(load.times) == 100
    assert load.rate == pytest.approx(100 / load.seconds)
    assert min(load.times) <= load.within(0.5) <= load.within(1) == max(load.times)


def test_another_status_ends_the_benchmark(port: int) -> None:
    with pytest.raises(SystemExit, match=r"201 Created.*instead of 200"):
        call_all(port, [request("GET", "/")], status=200)


def test_calls_at_a_rate_are_no_faster(port: int) -> None:
    load = call_all(port, [request("GET", "/")] * 21, status=201, rate=200)
    assert load.seconds >= 20 / 200


def test_calls_at_a_rate_are_timed_from_when_they_were_due(port: int) -> None:
    """A server that cannot keep up must not look fast because its clients wait for it."""
    load = call_all(port, [request("GET", "/")] * 50, status=201, clients=1, rate=1_000_000)
    assert load.times == sorted(load.times)
    assert load.times[-1] == pytest.approx(1_000 * load.seconds, rel=0.1)


def test_a_figure_is_kept_in_place_of_an_earlier_one(tmp_path: Path) -> None:
    file = tmp_path / "performance.json"
    for ratio in (0.5, 0.3):
        record(figure(ratio=ratio), file)
    record(figure("drain"), file)
    drain, issue = sorted(recorded(file), key=lambda found: found.name)
    assert (drain.name, issue.name) == ("drain", "issue")
    assert issue.ratio == 0.3
    assert "PostgreSQL 18" in issue.machine


@pytest.mark.parametrize(
    ("goal", "at_most", "ratio", "goal_in_words", "verdict"),
    [
        (0.4, False, 0.4, "at least 0.4", "holds"),
        (0.4, False, 0.39, "at least 0.4", "**missed**"),
        (2.0, True, 2.0, "at most 2", "holds"),
        (0.4, True, 0.5, "at most 0.4", "**missed**"),
        (None, False, 0.5, "", ""),
    ],
)
def test_the_page_says_whether_a_goal_holds(
    goal: float | None, at_most: bool, ratio: float, goal_in_words: str, verdict: str
) -> None:
    found = Figure(
        name="issue", what="calls", ours="a", theirs="b", pairs=[(ratio, 1.0)] * 5, goal=goal, at_most=at_most
    )
    page = filled(PAGE, [measured(found)])
    assert f"| Calls | a: {ratio:.2f} | b: 1.00 | {ratio:.2f} | {goal_in_words} | {verdict} |" in page
    assert (f"the goal is {goal_in_words}: {verdict}." in page) is (goal is not None)


def test_the_page_is_written_between_its_marks_and_again_the_same() -> None:
    page = filled(PAGE, [figure(), figure("drain of a course"), figure("elsewhere")])
    assert "stale" not in page
    assert "By hand." in page
    assert page.count("| 500 | 1,000 | 0.50 |") == 2
    assert "elsewhere" not in page
    assert filled(page, [figure(), figure("drain of a course")]) == page


def test_the_page_says_what_is_not_measured_yet() -> None:
    assert "Not measured yet" in filled(PAGE, [])


def test_the_page_says_what_was_measured_where_and_when() -> None:
    issue, drain = figure(), replace(figure("drain of a course"), day="30 November 2026")
    assert "\n2 cores, 30 November 2026 and 1 December 2026.\n" in filled(PAGE, [issue, drain])

    page = filled(PAGE, [replace(issue, machine="4 cores"), drain])
    assert "\n- 4 cores, 1 December 2026: issue.\n" in page
    assert "\n- 2 cores, 30 November 2026: drain of a course.\n" in page


def test_the_median_counts_and_not_the_mean() -> None:
    assert figure(ratio=0.5).ratio == 0.5


def test_the_picture_has_a_bar_for_each_goal_on_its_side() -> None:
    figures = [figure("issue"), figure("drain", goal=0.7), figure("drain 2", goal=None)]
    drawn = picture(in_order(PAGE, figures))
    assert drawn == picture(in_order(PAGE, figures))
    drawing = ElementTree.fromstring(drawn)  # noqa: S314  # our own
    bars = [bar.attrib for bar in drawing.iter("{http://www.w3.org/2000/svg}rect")][3:]
    assert [bar["class"] for bar in bars] == ["holds", "missed"]
    goal = int(bars[0]["x"])
    assert int(bars[1]["x"]) + int(bars[1]["width"]) == goal
    assert "calls of &lt;issue&gt;" in drawn.lower()
