"""Keys of the programs that may call the API; hashed, shown once, revocable at once."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from rest_framework_api_key.models import AbstractAPIKey


class ApiKey(AbstractAPIKey):
    class Scope(models.TextChoices):
        ISSUE = "issue", "Issue vouchers"
        REDEEM = "redeem", "Redeem vouchers"
        MANAGE = "manage", "Upload, list and count vouchers"

    scopes = ArrayField(models.CharField(max_length=10, choices=Scope.choices), size=3)

    class Meta(AbstractAPIKey.Meta):
        constraints = [
            models.CheckConstraint(
                condition=models.Q(scopes__contained_by=["issue", "redeem", "manage"], scopes__len__gte=1),
                name="api_key_scopes_known",
            ),
        ]

    def may(self, scope: str) -> bool:
        return scope in self.scopes
