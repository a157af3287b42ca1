"""The desk's own settings, with one more view to measure against."""

from config.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.urls"
