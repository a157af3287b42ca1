from importlib import import_module

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class ConfigConfig(AppConfig):
    """An app without models: it brings the `run` command and the checks of the settings."""

    name = "config"

    def ready(self) -> None:
        import_module("config.checks")


class DeskAdminConfig(AdminConfig):
    default_site = "config.admin.DeskAdminSite"
