"""What a file is by its first bytes, and what to do with those that hold no list of codes."""

from __future__ import annotations

from vouchers.errors import UnreadableFile

HEAD = 16  # bytes
ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")

_PACKED = "The file is packed ({}). Unpack it and upload the file inside."
_PICTURE = "The file is a picture ({}). Upload the codes themselves: a spreadsheet, or a text file with one a line."
_OLD_EXCEL = (
    "The file is an old Excel workbook (.xls) or one with a password. Save it as an Excel workbook (.xlsx) without a "
    "password, or as CSV."
)
DOCUMENTS = {
    b"\x1f\x8b": _PACKED.format("gzip"),
    b"BZh91AY&SY": _PACKED.format("bzip2"),
    b"\xfd7zXZ\0": _PACKED.format("xz"),
    b"7z\xbc\xaf\x27\x1c": _PACKED.format("7-Zip"),
    b"Rar!\x1a\x07": _PACKED.format("RAR"),
    b"\x28\xb5\x2f\xfd": _PACKED.format("Zstandard"),
    b"%PDF-": "The file is a PDF. Upload the spreadsheet or the text file that it was made from.",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": _OLD_EXCEL,
    b"\x89PNG": _PICTURE.format("PNG"),
    b"\xff\xd8\xff": _PICTURE.format("JPEG"),
}
_WEB_PAGE = "The file is a web page (HTML), whatever its name. Open it in a spreadsheet and save it as .xlsx or CSV."
MARKUP = {
    r"{\rtf": "The file is a formatted document (RTF). Save it as plain text.",
    "<?xml": "The file is XML. Open it in the program it is for and save it as .xlsx or CSV.",
    "<!doctype": _WEB_PAGE,
    "<html": _WEB_PAGE,
    "<head": _WEB_PAGE,
    "<meta": _WEB_PAGE,
    "<body": _WEB_PAGE,
    "<table": _WEB_PAGE,
}


def is_zip(head: bytes) -> bool:
    return head.startswith(ZIP)


def is_json(beginning: str) -> bool:
    """No code begins so."""
    return beginning.startswith(("[", "{"))


def refuse_document(head: bytes) -> None:
    for magic, sentence in DOCUMENTS.items():
        if head.startswith(magic):
            raise UnreadableFile(sentence)


def refuse_markup(beginning: str) -> None:
    for opening, sentence in MARKUP.items():
        if beginning.startswith(opening):
            raise UnreadableFile(sentence)
