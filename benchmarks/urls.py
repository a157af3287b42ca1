"""The desk's addresses, and `/empty`: the least that any call of the API costs."""

from __future__ import annotations

from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response

from config.urls import urlpatterns as of_the_desk
from vouchers.api.base import DeskView
from vouchers.models import ApiKey


class Empty(DeskView):
    """The same authentication, permission and error shape as everywhere; parses JSON and answers with it."""

    scope = ApiKey.Scope.ISSUE

    def post(self, request: Request) -> Response:
        return Response(request.data)

    def get(self, request: Request) -> Response:
        return Response({"status": "empty"})


urlpatterns = [path("empty", Empty.as_view()), *of_the_desk]
