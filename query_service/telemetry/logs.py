"""How a line of the log is written. Messages of exceptions, which may name ids, are left out."""

import asyncio
import json
import logging
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

logger = logging.getLogger(__name__)
_ExceptionInfo = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


def set_up(name: str) -> None:
    """Write the log to standard error, as ``text`` or ``json``."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if name == "json" else TextFormatter())
    handler.addFilter(_is_no_value)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _is_no_value(record: logging.LogRecord) -> bool:
    """Not gRPC's line with what a caller sent as metadata and is no UTF-8: it may be a token."""
    return not (record.name.startswith("grpc.") and "Invalid encoding" in str(record.msg))


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a record says besides its message, given as ``extra={"fields": ...}``."""
    found: dict[str, Any] = getattr(record, "fields", {})
    return found


class TextFormatter(logging.Formatter):
    """Time, level, message, ``key=value`` pairs; tracebacks in the lines below."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        """RFC 3339, UTC."""
        time = datetime.fromtimestamp(record.created, UTC)
        return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def formatException(self, ei: _ExceptionInfo) -> str:  # noqa: N802
        """The frames and classes of an exception and its causes."""
        parts = []
        error = ei[1]
        while error is not None:
            lines = "".join(traceback.format_tb(error.__traceback__))
            parts.append(f"{_name(error)} at (most recent call last):\n{lines}")
            error = error.__cause__ or error.__context__
        return "caused by ".join(parts).rstrip()

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback."""
        pairs = "".join(f" {key}={value}" for key, value in fields(record).items())
        time = self.formatTime(record)
        line = f"{time} {record.levelname} {record.getMessage()}{pairs}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(TextFormatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Everything in one line."""
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
    """The class; of a gRPC error its status too."""
    code = getattr(error, "code", None)
    status = getattr(code(), "name", "") if callable(code) else ""
    return f"{type(error).__qualname__} {status}".rstrip()


def loop_failed(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A loop's exception handler; its own prints exceptions with their messages."""
    error = context.get("exception")
    logger.error("%s", context["message"], exc_info=error)
