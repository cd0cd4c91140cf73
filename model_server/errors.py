"""What can go wrong, as TensorFlow Serving says it.

ServingError            a status code and a message for the caller
  InvalidArgument
  NotFound
  FailedPrecondition
  OpError               the graph's own code and message
LoadError               a version that cannot be served; kept in its status
"""


class ServingError(Exception):
    """An error with a canonical status code (an int: TensorFlow's and gRPC's agree)."""

    code = 2

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvalidArgument(ServingError):
    """The request is wrong."""

    code = 3


class NotFound(ServingError):
    """No such servable."""

    code = 5


class FailedPrecondition(ServingError):
    """The model does not have what was asked for."""

    code = 9


class OpError(ServingError):
    """An op of the graph failed."""


class LoadError(ServingError):
    """A version could not be loaded or warmed up."""
