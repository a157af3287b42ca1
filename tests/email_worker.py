"""A process that sends what is due and can be killed: forked from one that has loaded Django already, so that starting
it again costs next to nothing."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerProcess

import django
from django.db import connections
from django.test.utils import override_settings

django.setup()

from vouchers.delivery.sending import send_due  # noqa: E402  # its models want Django to be set up

CONTEXT = multiprocessing.get_context("forkserver")


def work(database: str, host: str, port: int) -> None:
    connections["default"].settings_dict["NAME"] = database
    smtp = {"EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend", "EMAIL_HOST": host, "EMAIL_PORT": port}
    with override_settings(**smtp, DEFAULT_FROM_EMAIL="Course Shop <vouchers@shop.example>"):
        send_due()


def start_worker(database: str, host: str, port: int) -> ForkServerProcess:
    CONTEXT.set_forkserver_preload([__name__])
    process = CONTEXT.Process(target=work, args=(database, host, port))
    process.start()
    return process
