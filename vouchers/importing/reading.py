"""Reads codes out of what people hand in, a line at a time and with line numbers. What a file is, its content
says; its name only helps where a table has no header."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from typing import BinaryIO, cast

from django.core.files.uploadedfile import UploadedFile

from vouchers.errors import UnreadableFile
from vouchers.importing.json_lists import read_json
from vouchers.importing.kinds import HEAD, is_json, is_zip, refuse_document, refuse_markup
from vouchers.importing.lines import Line
from vouchers.importing.spreadsheets import read_spreadsheet
from vouchers.importing.text import examined, read_lines

__all__ = ["Line", "opened", "read_file", "read_list", "read_text", "sha256_of"]


def read_list(codes: Iterable[str]) -> Iterator[Line]:
    for number, code in enumerate(codes, 1):
        yield Line(number, code)


def read_text(text: str) -> Iterator[Line]:
    return read_file(io.BytesIO(text.encode()))


def opened(upload: UploadedFile[bytes]) -> BinaryIO:
    """The file that Django keeps an upload in: in memory, or on disk where it is large."""
    return cast(BinaryIO, upload.open().file)


def sha256_of(file: BinaryIO) -> str:
    """The digest by which the same file is recognised, in hexadecimal; leaves the file at its beginning."""
    file.seek(0)
    digest = hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest()
    file.seek(0)
    return digest


def read_file(file: BinaryIO, name: str = "") -> Iterator[Line]:
    """The codes of a text file, an XLSX spreadsheet or a JSON list.

    Raises `UnreadableFile`, saying where and what to do, for anything else, and for a file without codes.
    """
    lines = _lines(file, name)
    first = next(lines, None)
    if first is None:
        raise UnreadableFile("There are no codes in it. Put one code on each line.")
    yield first
    yield from lines


def _lines(file: BinaryIO, name: str) -> Iterator[Line]:
    file.seek(0)
    head = file.read(HEAD)
    if is_zip(head):
        return read_spreadsheet(file)
    refuse_document(head)
    text = examined(file)
    refuse_markup(text.beginning)
    return read_json(text) if is_json(text.beginning) else read_lines(text, name)
