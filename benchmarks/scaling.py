"""POST /issue-voucher with two web processes beside one, 16 keep-alive clients; and what stands in the way of more.

The same: the database, the clients, the machine with everything on it. The two web servers stand on one database, and
each has codes of a course of its own.

Afterwards each is loaded once more and its sessions in PostgreSQL are looked at, so that looking costs no figure:
what they wait for, and which processes use the cores. Two processes cannot be twice as fast where one all but fills a
machine of two cores: what counts is that no session waits for another one.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field

from benchmarks.desk import Desk, beside, running_desk
from benchmarks.figures import PAIRS, Figure, in_turn, record
from benchmarks.load import Load, call_all, request
from benchmarks.waits import Processors, Waits, cores_table, process_groups, waits_table, watched

CALLS = 1_500
WATCHED = 3_000


@dataclass
class Issuing:
    """Load on one web server, whose orders and pool are its own."""

    desk: Desk
    course: str
    key: str
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def load(self, calls: int) -> Load:
        bodies = (
            {"courseId": self.course, "email": f"buyer{number}@example.com", "orderId": f"order {number}"}
            for number in itertools.islice(self.numbers, calls)
        )
        header = f"Api-Key {self.key}"
        issue = [request("POST", "/issue-voucher", json.dumps(body).encode(), Authorization=header) for body in bodies]
        return call_all(self.desk.port, issue, status=201)

    def rate(self) -> float:
        return self.load(CALLS).rate

    def watch(self) -> tuple[Waits, dict[str, float]]:
        """What PostgreSQL waits for, and the cores that each part keeps busy."""
        url = self.desk.environment["DATABASE_URL"]
        cores = Processors(process_groups(url, web=self.desk.process))
        with watched(url) as waits:
            self.load(WATCHED)
        return waits, cores.busy()


def issuing(desk: Desk, course: str) -> Issuing:
    desk.fill(course, (f"{course}-{number:06}" for number in range(CALLS * (PAIRS + 1) + WATCHED)))
    return Issuing(desk, course, desk.manage("create_api_key", course, "--scope", "issue"))


def main() -> None:
    with running_desk(WEB_CONCURRENCY="1") as alone, beside(alone, WEB_CONCURRENCY="2") as pair:
        one, two = issuing(alone, "ONE"), issuing(pair, "TWO")
        pairs = in_turn(two.rate, one.rate)
        (waits_1, cores_1), (waits_2, cores_2) = one.watch(), two.watch()
    record(
        Figure(
            name="scaling_web",
            what="POST /issue-voucher with two web processes, beside one",
            ours="issues/s with two",
            theirs="issues/s with one",
            pairs=pairs,
            detail="\n\n".join(
                [
                    f"Sessions that waited for another one: {waits_1.of_locks:.1%} of the busy ones with one process, "
                    f"{waits_2.of_locks:.1%} with two.",
                    waits_table({"one": waits_1, "two": waits_2}),
                    cores_table({"one": cores_1, "two": cores_2}),
                ]
            ),
        )
    )


if __name__ == "__main__":
    main()
