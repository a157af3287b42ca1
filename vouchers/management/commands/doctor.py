"""python manage.py doctor [--heal] [--json]"""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.template.defaultfilters import pluralize

from vouchers.doctor.check import HealableCheck
from vouchers.doctor.rounds import CHECKS, Finding, HealResult, check_up, heal
from vouchers.management.base import DeskCommand, bar
from vouchers.models import Checkup

ACTOR = "command line"


class Command(DeskCommand):
    help = "Goes through the books and says each break in a sentence; the exit code is 1 where something is broken."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--heal", action="store_true", help="heal what can be healed safely, then look again")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        with bar("Checking") as watch:
            checkup = check_up(ACTOR, watch)
        healed = {}
        if options["heal"] and checkup.findings:
            healed = _heal_all()
            with bar("Checking again") as watch:
                checkup = check_up(ACTOR, watch)
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(checkup, healed), indent=2))
        else:
            self._show(checkup, healed)
        end = closing_line(checkup.findings, sum(result.healed for result in healed.values()))
        if checkup.findings:
            raise CommandError(end)
        if not options["json"]:
            self.stdout.write(end)

    def _show(self, checkup: Checkup, healed: dict[str, HealResult]) -> None:
        found = {finding["check"]: finding for finding in checkup.findings}
        for check in CHECKS:
            finding = found.get(check.name)
            result = healed.get(check.name)
            mended = f", {result.healed} healed" if result and result.healed else ""
            state = f"{finding['count']} broken" if finding else "well"
            self.stdout.write(f"{'✗' if finding else '✓'} {check.title}: {state}{mended}")
            if finding:
                self._spell_out(finding, result, check.advice)

    def _spell_out(self, finding: Finding, result: HealResult | None, advice: str) -> None:
        sentences = result.left if result and result.left else finding["sentences"]
        for sentence in sentences:
            self.stdout.write(f"    {sentence}")
        if finding["count"] > len(sentences):
            self.stdout.write(f"    … and {finding['count'] - len(sentences)} more.")
        if result is None:
            self.stdout.write(f"  → {'--heal heals it.' if finding['healable'] else advice}")


def _heal_all() -> dict[str, HealResult]:
    """Heals all that every check finds."""
    healed = {check.name: HealResult() for check in CHECKS if isinstance(check, HealableCheck)}
    for name, total in healed.items():
        goes_on = True
        while goes_on:
            result = heal(name, ACTOR)
            total.healed += result.healed
            total.left = result.left
            goes_on = result.more and result.healed > 0
    return {name: total for name, total in healed.items() if total.healed or total.left}


def _as_json(checkup: Checkup, healed: dict[str, HealResult]) -> dict[str, Any]:
    found = {finding["check"]: finding for finding in checkup.findings}
    well: dict[str, Any] = {"count": 0, "sentences": []}
    return {
        "checkup": checkup.pk,
        "broken": sum(finding["count"] for finding in checkup.findings),
        "healed": {name: result.healed for name, result in healed.items()},
        "checks": [
            {
                "check": check.name,
                "title": check.title,
                "healable": isinstance(check, HealableCheck),
                **{key: found.get(check.name, well)[key] for key in ("count", "sentences")},
            }
            for check in CHECKS
        ],
    }


def closing_line(findings: list[Finding], healed: int) -> str:
    """What happened, in a line."""
    mended = f"{healed} break{pluralize(healed)} healed. " if healed else ""
    broken = sum(finding["count"] for finding in findings)
    if not broken:
        return f"{mended}The books are right: {len(CHECKS)} checks found nothing."
    return f"{mended}{broken} break{pluralize(broken)} in the books, found by {len(findings)} of {len(CHECKS)} checks."
