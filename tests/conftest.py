from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.core.cache import cache
from rest_framework.test import APIClient

from courses.models import Course
from tests.factories import CourseFactory, make_key
from vouchers.pool import forget_places

pytest_plugins = ["tests.running", "tests.browser"]

Caller = Callable[..., APIClient]


@pytest.fixture(autouse=True)
def _fast_passwords(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    """Who is told of events is remembered for some seconds, and tests are faster than that; so is the place of the last
    code of each pool."""
    cache.clear()
    forget_places()


@pytest.fixture
def course(db: None) -> Course:
    return CourseFactory.create(id="JS101")


@pytest.fixture
def priced(course: Course) -> Course:
    """The same, for 49.00 USD."""
    course.price = Decimal("49.00")
    course.save(update_fields=["price"])
    return course


@pytest.fixture
def caller(db: None) -> Caller:
    """A client with an API key of the given scopes; anonymous without any."""

    def make(*scopes: str) -> APIClient:
        client = APIClient()
        if scopes:
            client.credentials(HTTP_AUTHORIZATION=f"Api-Key {make_key(*scopes)}")
        return client

    return make
