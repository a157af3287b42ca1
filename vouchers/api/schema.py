"""GET /api/schema and GET /api/docs; their refusals are JSON like everybody's, whatever they render."""

from __future__ import annotations

from django.http import JsonResponse
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.views import APIView


class RefusalsInJSON(APIView):
    def handle_exception(self, exc: Exception) -> JsonResponse:  # type: ignore[override]  # any response will do
        refusal = super().handle_exception(exc)
        headers = {name: value for name, value in refusal.items() if name != "Content-Type"}
        return JsonResponse(refusal.data, status=refusal.status_code, headers=headers)


class Schema(RefusalsInJSON, SpectacularAPIView):
    pass


class Docs(RefusalsInJSON, SpectacularSwaggerView):
    pass
