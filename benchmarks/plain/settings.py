"""The least that the plain implementation runs on."""

from __future__ import annotations

import os

from config.settings import database

SECRET_KEY = os.environ["SECRET_KEY"]
INSTALLED_APPS = ["benchmarks.plain"]
DATABASES = {"default": database(os.environ["DATABASE_URL"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
