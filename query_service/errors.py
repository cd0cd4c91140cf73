"""The exceptions of the query service.

A RetrievalError ends one request. Only ``query_service.api`` maps it to a status code. A StartError
means that the service cannot start. An UnusableFile is one kind of StartError.
"""

from rpc.errors import StartError as StartError
from rpc.errors import UnusableFile as UnusableFile


class RetrievalError(Exception):
    """A request cannot be answered. The message is for the caller."""


class InvalidRequest(RetrievalError):
    """A field of the request breaks a rule of the API."""

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description


class UnknownQuery(RetrievalError):
    """The model does not know the item (or the user, with ``--unknown-user not-found``)."""


class ModelServerUnavailable(RetrievalError):
    """The model server does not answer, or has not loaded the model."""


class SignatureMissing(RetrievalError):
    """The model lacks the signature that a query needs, for example because the model is old."""


class SeenStoreUnavailable(RetrievalError):
    """Seen items cannot be read or recorded now."""


class RecordingUnsupported(RetrievalError):
    """No seen store that can record interactions is configured."""


class OutOfTime(RetrievalError):
    """The deadline passed."""


class Overloaded(RetrievalError):
    """The service or the model server accepts no more requests."""


class ModelServerFault(RetrievalError):
    """The model server's answer breaks its contract, which is a bug."""
