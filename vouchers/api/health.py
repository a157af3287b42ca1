"""GET /healthz (this process) and GET /readyz (what it needs)"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache

from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from drf_spectacular.utils import extend_schema, inline_serializer
from procrastinate.contrib.django.models import ProcrastinateWorker
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from vouchers.api.base import DeskView
from vouchers.api.documents import refusals
from vouchers.errors import DeskError

WORKER_SILENCE = dt.timedelta(seconds=30)


class NotReady(DeskError):
    status = 503
    code = "not_ready"
    message = "The database has migrations to come. Run: python manage.py migrate"


class HealthView(DeskView):
    authentication_classes = []
    permission_classes = []


class Healthz(HealthView):
    @extend_schema(
        tags=["Health"],
        summary="Is this process alive?",
        auth=[],
        responses={200: inline_serializer("Health", {"status": serializers.CharField()})} | refusals(),
    )
    def get(self, request: Request) -> Response:
        return Response({"status": "ok"})


class Readyz(HealthView):
    @extend_schema(
        tags=["Health"],
        summary="Can this process do its work?",
        description="A missing worker is said, and does not take the desk out of service: its emails wait.",
        auth=[],
        responses={
            200: inline_serializer(
                "Readiness",
                {
                    "status": serializers.CharField(),
                    "worker": serializers.BooleanField(),
                    "warnings": serializers.ListField(child=serializers.CharField()),
                },
            )
        }
        | refusals(503, s503=["not_ready"]),
    )
    def get(self, request: Request) -> Response:
        if not migrated():
            migrated.cache_clear()
            raise NotReady
        worker = worker_is_alive()
        warnings = (
            [] if worker else ["No worker is running: emails are not sent. Start: manage.py procrastinate worker"]
        )
        return Response({"status": "ready", "worker": worker, "warnings": warnings})


@lru_cache(maxsize=1)
def migrated() -> bool:
    """Whether the database has every migration of this code; remembered once it is so."""
    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())


def worker_is_alive() -> bool:
    return ProcrastinateWorker.objects.filter(last_heartbeat__gt=timezone.now() - WORKER_SILENCE).exists()
