"""What an afternoon gives: a table of codes, and who has which."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class Course(models.Model):
    id = models.CharField(max_length=64, primary_key=True)
    name = models.CharField(max_length=200)

    objects: models.Manager[Course] = models.Manager()

    def __str__(self) -> str:
        return self.name


class Voucher(models.Model):
    course = models.ForeignKey(Course, on_delete=models.PROTECT, related_name="vouchers")
    code = models.CharField(max_length=128, unique=True)
    issued_to = models.EmailField(blank=True)
    issued_at = models.DateTimeField(null=True, blank=True)

    objects: models.Manager[Voucher] = models.Manager()

    class Meta:
        indexes = [models.Index(fields=["course", "id"], condition=Q(issued_at=None), name="plain_voucher_pool")]

    def __str__(self) -> str:
        return f"Voucher {self.pk}"
