"""What became of an issuance on its way: another address, another code. Written once, never changed."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now, Upper

from vouchers.models.issuance import Issuance
from vouchers.models.voucher import Voucher


class AddressChange(models.Model):
    """The address of a buyer was corrected: what is owed to the new one was owed to the old one before."""

    issuance = models.ForeignKey(Issuance, on_delete=models.PROTECT, related_name="address_changes")
    old_email = models.CharField(max_length=254)
    new_email = models.CharField(max_length=254)
    actor = models.CharField(max_length=200, help_text="Who did it, such as `user:7`.")
    changed_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(Upper("old_email"), name="address_change_old_email")]
        constraints = [
            models.CheckConstraint(condition=~Q(old_email="") & ~Q(new_email=""), name="address_change_has_both"),
        ]

    def __str__(self) -> str:
        return f"Change of address {self.pk}"


class Replacement(models.Model):
    """A voucher that was revoked and another one issued in its place; `voucher` is the old one."""

    issuance = models.ForeignKey(Issuance, on_delete=models.PROTECT, related_name="replacements")
    voucher = models.OneToOneField(Voucher, on_delete=models.PROTECT, related_name="replacement")
    reason = models.CharField(max_length=300)
    actor = models.CharField(max_length=200, help_text="Who did it, such as `user:7`.")
    seen_at = models.DateTimeField(null=True, blank=True, help_text="When the holder saw the old code.")
    told_at = models.DateTimeField(null=True, blank=True, help_text="When a program was answered with the old code.")
    replaced_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"Replacement {self.pk}"
