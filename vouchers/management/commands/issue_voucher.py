"""python manage.py issue_voucher COURSE EMAIL [--order ORDER]"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser
from django.core.validators import validate_email

from vouchers.issuing import IssueRequest, issue_voucher
from vouchers.management.base import DeskCommand


class Command(DeskCommand):
    help = "Issues a voucher of a course to an email, or queues it where the pool is empty."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("course", help="course id, such as JS101")
        parser.add_argument("email", help="whom the voucher is for")
        parser.add_argument("--order", default="", help="the shop's order; the same order is issued once")

    def handle(self, *args: Any, course: str, email: str, order: str, **options: Any) -> None:
        email = email.strip()
        try:
            validate_email(email)
        except ValidationError:
            raise CommandError(f"{email!r} is not one email address.") from None
        if len(email) > 254 or len(order) > 255:
            raise CommandError("An email has up to 254 characters, an order up to 255.")
        result = issue_voucher(IssueRequest(course_id=course, email=email, order_id=order, caller="command"))
        issuance = result.issuance
        if issuance.voucher is None:
            self.stdout.write(f"{email} waits for a voucher of {course}, number {issuance.position} in the queue.")
        elif result.created:
            self.stdout.write(f"Issued {issuance.voucher.code} to {email}; the email is on its way.")
        else:
            self.stdout.write(f"{email} already holds {issuance.voucher.code}; nothing was issued again.")
