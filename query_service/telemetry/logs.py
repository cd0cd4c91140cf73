"""The format of log lines. Messages of exceptions are left out, because they may contain ids."""

import asyncio
import json
import logging
import time
import traceback
from types import TracebackType
from typing import Any

logger = logging.getLogger(__name__)
_ExceptionInfo = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


def set_up(log_format: str) -> None:
    """Write the log to standard error, in the format ``text`` or ``json``."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    handler.addFilter(_contains_no_metadata)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _contains_no_metadata(record: logging.LogRecord) -> bool:
    """Return False for gRPC's line about metadata that is not UTF-8, which may repeat a token."""
    return not (record.name.startswith("grpc.") and "Invalid encoding" in str(record.msg))


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields that were passed to the logger as ``extra={"fields": ...}``."""
    extra: dict[str, Any] = getattr(record, "fields", {})
    return extra


class TextFormatter(logging.Formatter):
    """Writes the time, level, message and fields of a record in one line, then its traceback."""

    # The time is in UTC, in the format of RFC 3339.
    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def formatException(self, ei: _ExceptionInfo) -> str:  # noqa: N802
        """Return the frames and classes of an exception and its causes, without messages."""
        parts = []
        error = ei[1]
        while error is not None:
            lines = "".join(traceback.format_tb(error.__traceback__))
            parts.append(f"{_name(error)} at (most recent call last):\n{lines}")
            error = error.__cause__ or error.__context__
        return "caused by ".join(parts).rstrip()

    def format(self, record: logging.LogRecord) -> str:
        """Return a line with ``key=value`` for each field, followed by the traceback."""
        pairs = "".join(f" {key}={value}" for key, value in fields(record).items())
        line = f"{self.formatTime(record)} {record.levelname} {record.getMessage()}{pairs}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(TextFormatter):
    """Writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a JSON object that includes the fields and the traceback."""
        line = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "message": record.getMessage(),
            **fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _name(error: BaseException) -> str:
    """Return the class name of an exception, followed by the status of a gRPC error."""
    code = getattr(error, "code", None)
    status = getattr(code(), "name", "") if callable(code) else ""
    return f"{type(error).__qualname__} {status}".rstrip()


def log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an event loop's error, without the exception's message that the default handler shows."""
    error = context.get("exception")
    logger.error("%s", context["message"], exc_info=error)
