"""Loaded by `-p tests.postgres`: gives the tests a PostgreSQL before pytest-django reads the settings."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import pytest

from config import embedded_postgres

# `make test` runs the tests in two parts at once, each on a server of its own.
HOME = Path(__file__).resolve().parent.parent / f".pg-test{os.environ.get('TESTS_PART', '')}"


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(args: Sequence[str]) -> None:
    if not os.environ.get("SECRET_KEY"):
        os.environ["SECRET_KEY"] = secrets.token_urlsafe(50)
    if os.environ.get("DATABASE_URL") or {"--help", "-h", "--version", "-V"} & set(args):
        return
    try:
        server = embedded_postgres.start(HOME, durable=False)
    except embedded_postgres.EmbeddedPostgresError as error:
        raise pytest.UsageError(str(error)) from error
    os.environ["DATABASE_URL"] = server.url
    os.environ["EMBEDDED_POSTGRES_RUNNING"] = "true"


def pytest_unconfigure() -> None:
    for server in [*embedded_postgres.held]:
        server.release()
