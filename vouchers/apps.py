from importlib import import_module

from django.apps import AppConfig


class VouchersConfig(AppConfig):
    name = "vouchers"
    verbose_name = "Voucher desk"

    def ready(self) -> None:
        # Here, because dj-stripe's models must be there first.
        import_module("vouchers.signals").connect()
