"""Log lines as JSON, one an event, in which no code and no email stands in clear."""

from __future__ import annotations

import datetime as dt
import json
import logging
import re

EMAIL = re.compile(r"[^\s@\"'<>(),:;=]+@[^\s@\"'<>(),:;=]+")
# PostgreSQL puts the values of a row into these parts of its errors; a value may go over several lines.
VALUES = re.compile(r"^\s*(?:DETAIL|CONTEXT|LINE \d+):.*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)


def mask(text: str) -> str:
    """A text without emails and without the values of database rows."""
    return EMAIL.sub("<email>", VALUES.sub("<values of a row>", text))


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "message"}`, what the call gave as `extra={"event": {…}}`, and a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": mask(record.getMessage()),
        }
        event = getattr(record, "event", None)
        if isinstance(event, dict):
            line |= event
        if record.exc_info:
            line["traceback"] = mask(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)
