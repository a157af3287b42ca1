from importlib import import_module

from django.apps import AppConfig


class ConfigConfig(AppConfig):
    """An app without models: it brings the `run` command and the checks of the settings."""

    name = "config"

    def ready(self) -> None:
        import_module("config.checks")
