"""Rows for tests, made the way the desk makes them: an issued voucher has its issuance and its email."""

from __future__ import annotations

from typing import Any

import factory
from django.contrib.auth.models import User

from courses.models import Course, Purchase
from vouchers.issuing import IssueRequest, issue_voucher
from vouchers.models import ApiKey, Batch, Delivery, Issuance, Voucher
from vouchers.pool import note_upload


class CourseFactory(factory.django.DjangoModelFactory[Course]):
    class Meta:
        model = Course

    id = factory.Sequence(lambda n: f"JS{n + 101}")
    name = "JavaScript Basics"


class PurchaseFactory(factory.django.DjangoModelFactory[Purchase]):
    class Meta:
        model = Purchase

    provider = Purchase.Provider.STRIPE
    reference = factory.Sequence(lambda n: f"pi_{n}")
    course = factory.SubFactory(CourseFactory)
    email = "ann@example.com"
    amount = 49
    currency = "usd"


class BatchFactory(factory.django.DjangoModelFactory[Batch]):
    class Meta:
        model = Batch

    course = factory.SubFactory(CourseFactory)
    actor = "tests"
    source = Batch.Source.COMMAND


class VoucherFactory(factory.django.DjangoModelFactory[Voucher]):
    """An available voucher."""

    class Meta:
        model = Voucher

    course = factory.SubFactory(CourseFactory)
    batch = factory.SubFactory(BatchFactory, course=factory.SelfAttribute("..course"))
    code = factory.Sequence(lambda n: f"CODE-XZ4B7Q-{n:06}")
    position = factory.Sequence(lambda n: n)


class UserFactory(factory.django.DjangoModelFactory[User]):
    class Meta:
        model = User
        skip_postgeneration_save = True

    username = factory.Sequence(lambda n: f"staff{n}")
    is_staff = True
    is_superuser = True
    password = factory.django.Password("a-long-password")


def make_pool(course: Course, number: int, **fields: Any) -> list[Voucher]:
    """Available vouchers of a course, in the order in which they are issued."""
    batch = BatchFactory.create(course=course)
    note_upload(course)
    return VoucherFactory.create_batch(number, course=course, batch=batch, **fields)


def issue_to(course: Course, email: str = "ann@example.com", **fields: Any) -> Issuance:
    return issue_voucher(IssueRequest(course_id=course.pk, email=email, caller="tests", **fields)).issuance


def make_key(*scopes: str) -> str:
    """A new API key, in clear."""
    _, key = ApiKey.objects.create_key(name="tests", scopes=list(scopes))
    return key


def voucher_of(delivery: Delivery) -> Voucher:
    """What an email carries."""
    assert delivery.issuance is not None
    assert delivery.issuance.voucher is not None
    return delivery.issuance.voucher


def queue_emails(course: Course, *emails: str) -> list[Delivery]:
    """An issued voucher and its queued email for each address."""
    make_pool(course, len(emails))
    return [issue_to(course, email).deliveries.get() for email in emails]
