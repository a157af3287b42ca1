"""The languages that buyers are spoken to in: which of them somebody asks for, and how a page is put into it.

Staff and programs read English: the admin and the API never leave `LANGUAGE_CODE`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from django.conf import settings
from django.http import HttpRequest
from django.utils import translation
from django.utils.translation.trans_real import parse_accept_lang_header


def known_language(given: str) -> str:
    """The desk's language of a tag such as `de`, `de-AT` or `de_DE`; empty where it does not speak it."""
    language = given.strip().replace("_", "-").partition("-")[0].lower()
    return language if language in dict(settings.LANGUAGES) else ""


def accepted_language(request: HttpRequest) -> str:
    """The best of what the browser asks for that the desk speaks; empty where there is none."""
    accepted = parse_accept_lang_header(request.headers.get("Accept-Language", ""))
    return next((language for tag, weight in accepted if weight and (language := known_language(tag))), "")


def chosen_language(request: HttpRequest) -> str:
    """What the reader chose by the switch of the shop's pages; empty where they chose none."""
    return known_language(request.COOKIES.get(settings.LANGUAGE_COOKIE_NAME, ""))


def language_of(request: HttpRequest) -> str:
    """Chosen, else the browser's, else the shop's own."""
    return chosen_language(request) or accepted_language(request) or settings.SHOP_LANGUAGE


def speaking(language: str) -> AbstractContextManager[None]:
    """Within it everything is in this language; where it is empty or not spoken here, as before."""
    return translation.override(known_language(language) or translation.get_language())
