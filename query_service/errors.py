"""Why a request cannot be answered. Which status code that is, the servicer decides.

RetrievalError
  InvalidRequest          a field breaks a rule of the API; names the field
  UnknownQuery            no such item; or no such user, where so configured; or, asked for its
                          health, no such service
  ModelServerUnavailable  the model server, or the model in it, is away
  SignatureMissing        the model in it is older than this service, or not ours
  SeenStoreUnavailable    seen items cannot be read, or recorded, now
  RecordingUnsupported    no store that could record is configured
  OutOfTime               the deadline passed
  Overloaded              the model server takes no more requests
  ModelServerFault        it answered against its contract: a bug somewhere
  Unauthenticated         the caller shows no token that holds
  RateLimited             the caller asks more than its key may

StartError                why there is no service at all
  UnusableFile            a file of certificates, keys or tokens
"""


class RetrievalError(Exception):
    """Base of all; its message is for the caller."""


class InvalidRequest(RetrievalError):
    """A field breaks a rule."""

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description


class UnknownQuery(RetrievalError):
    """Nobody here knows the id, or the name."""


class ModelServerUnavailable(RetrievalError):
    """Nobody answers, or the model is not loaded."""


class SignatureMissing(RetrievalError):
    """The model has no signature of this name."""


class SeenStoreUnavailable(RetrievalError):
    """Seen items cannot be read, or recorded."""


class RecordingUnsupported(RetrievalError):
    """There is nowhere to record."""


class OutOfTime(RetrievalError):
    """The deadline passed."""


class Overloaded(RetrievalError):
    """Too much to do."""


class ModelServerFault(RetrievalError):
    """An answer that breaks the contract."""


class Unauthenticated(RetrievalError):
    """No token, or none that holds; which of these it does not say."""


class RateLimited(RetrievalError):
    """More requests than a caller may ask."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StartError(Exception):
    """The service cannot start."""


class UnusableFile(StartError):
    """A file of certificates, keys or tokens that cannot be used; names it."""
