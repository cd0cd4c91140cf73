"""Chooses the gRPC server: our fast transport, or grpc.aio."""

import logging
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from query_service.errors import StartError

logger = logging.getLogger(__name__)

#: The releases of grpcio with which the fast transport has been tested. It uses private parts of
#: grpcio, so ``--transport auto`` chooses it with these releases only.
TESTED_GRPCIO = ("1.85.1",)


def make_server(transport: str, options: Sequence[tuple[str, Any]]) -> Any:
    """Return a server with the methods of ``grpc.aio.Server``.

    Args:
        transport: ``fast`` for the fast transport, ``aio`` for grpc.aio, or ``auto`` for the fast
            transport if it has been tested with the installed grpcio, else for grpc.aio.
        options: The gRPC channel arguments for the server.

    Raises:
        StartError: ``transport`` is ``fast``, which does not work with the installed grpcio.
    """
    if transport == "aio":
        return grpc.aio.server(options=options)
    reason = f"it is tested with {' and '.join(TESTED_GRPCIO)} only"
    if transport == "fast" or grpc.__version__ in TESTED_GRPCIO:
        try:
            # This import may fail with an untested grpcio, which must not affect grpc.aio.
            from query_service.transport import Server

            return Server(options)
        # If a private part of grpcio has changed, any exception is possible.
        except Exception as error:
            if transport == "fast":
                raise StartError(
                    f"--transport fast does not work with grpcio {grpc.__version__} ({error}): "
                    "use --transport auto or aio"
                ) from error
            reason = str(error)
    logger.warning(
        "the fast transport cannot be used with grpcio %s (%s): the service uses grpc.aio "
        "instead, which handles about half the request rate",
        grpc.__version__,
        reason,
    )
    return grpc.aio.server(options=options)
