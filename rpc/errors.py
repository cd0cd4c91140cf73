"""The exceptions of this package.

CallRefused           a call is not admitted; the message is for the caller
  Unauthenticated     the call has no valid token
  RateLimited         the caller has used up its rate limit

StartError            the server cannot start; the message is for the operator
  UnusableFile        a certificate, key or token file is missing or invalid
"""


class CallRefused(Exception):
    """A call is not admitted. The message is for the caller."""


class Unauthenticated(CallRefused):
    """The call has no valid token. The message does not say what is wrong with the token."""


class RateLimited(CallRefused):
    """The caller has used up its rate limit."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StartError(Exception):
    """The server cannot start. The message is for the operator."""


class UnusableFile(StartError):
    """A certificate, key or token file is missing or invalid. The message names the file."""
