"""Exceptions of the model server. Their codes and messages are those of TensorFlow Serving.

ServingError            a request failed; contains the status code and message for the caller
  InvalidArgument       the request does not fit the model
  NotFound              the model or the version is not available
  FailedPrecondition    the model has no such signature
  LoadError             a version cannot be served; GetModelStatus reports it
"""


class ServingError(Exception):
    """A request failed.

    ``code`` is a canonical status code: an int that is the same in TensorFlow and gRPC.
    """

    code = 2  # UNKNOWN

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvalidArgument(ServingError):
    """The request does not fit the model."""

    code = 3


class NotFound(ServingError):
    """The model or the version is not available."""

    code = 5


class FailedPrecondition(ServingError):
    """The model has no such signature."""

    code = 9


class LoadError(ServingError):
    """A version could not be loaded or warmed up."""
