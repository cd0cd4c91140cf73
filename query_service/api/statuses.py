"""The gRPC status code and error details of each of our errors."""

import grpc
from google.rpc import error_details_pb2, status_pb2

from query_service import errors
from query_service.errors import RetrievalError
from rpc import status
from rpc.errors import CallRefused

CODES: dict[type[Exception], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownQuery: grpc.StatusCode.NOT_FOUND,
    errors.ModelServerUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.SignatureMissing: grpc.StatusCode.UNAVAILABLE,
    errors.SeenStoreUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.RecordingUnsupported: grpc.StatusCode.FAILED_PRECONDITION,
    errors.OutOfTime: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.ModelServerFault: grpc.StatusCode.INTERNAL,
    **status.CODES,
}


def status_name(error: RetrievalError | CallRefused) -> str:
    """Return the name of the error's status code, for example ``NOT_FOUND``."""
    return CODES[type(error)].name


def error_status(error: RetrievalError | CallRefused) -> status_pb2.Status:
    """Return the status of an error. A BadRequest detail names the field that breaks a rule."""
    if isinstance(error, CallRefused):
        return status.refusal_status(error)
    code = CODES[type(error)]
    if isinstance(error, errors.ModelServerFault):
        return status.status(code, "internal error")
    if isinstance(error, errors.InvalidRequest):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.description
        )
        detail = error_details_pb2.BadRequest(field_violations=[violation])
        return status.status(code, str(error), detail)
    return status.status(code, str(error))
