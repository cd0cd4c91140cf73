"""For callers in Python: the API as plain values, blocking."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import grpc

from retrieval.v1 import interaction_service_pb2, interaction_service_pb2_grpc
from retrieval.v1 import retrieval_service_pb2 as pb
from retrieval.v1 import retrieval_service_pb2_grpc as pb_grpc
from rpc.credentials import Credentials


@dataclass(frozen=True)
class Candidate:
    """One item and its affinity to the query, higher is better."""

    item_id: str
    score: float


@dataclass(frozen=True)
class Answer:
    """Candidates, best first; whether they are personal; the model's version."""

    candidates: list[Candidate]
    personal: bool
    model_version: int


class RetrievalClient:
    """Asks a query service. Its methods raise ``grpc.RpcError`` with the API's codes.

    >>> with RetrievalClient("127.0.0.1:50051") as client:
    ...     answer = client.for_user("42", k=10, exclude_seen=True)
    """

    def __init__(
        self,
        address: str,
        timeout_s: float = 5.0,
        *,
        token: str | None = None,
        root_certificates: bytes | None = None,
        certificate_chain: bytes | None = None,
        private_key: bytes | None = None,
        server_name: str | None = None,
    ) -> None:
        """``root_certificates`` (PEM) switches TLS on; without it the token goes in plain text.

        ``certificate_chain`` and ``private_key`` (PEM) are for a service that asks callers for
        one; ``server_name`` is the name in its certificate, where that is not the address.
        """
        self._timeout_s = timeout_s
        credentials = Credentials(
            token, root_certificates, certificate_chain, private_key, server_name
        )
        self._metadata = metadata(credentials)
        self._channel = channel(address, credentials)
        self._stub = pb_grpc.RetrievalServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._interactions = interaction_service_pb2_grpc.InteractionServiceStub(  # type: ignore[no-untyped-call]
            self._channel
        )

    def for_user(
        self,
        user_id: str,
        k: int = 0,
        *,
        recent: Iterable[str] = (),
        exclude_seen: bool = False,
        exclude: Iterable[str] = (),
    ) -> Answer:
        """Candidates for a user; ``k`` 0 is the server's default.

        ``recent`` are the items of the user's last interactions, newest last.
        """
        return self._ask(
            pb.RetrieveRequest(
                user_id=user_id,
                recent_item_ids=recent,
                max_candidates=k,
                exclude_seen=exclude_seen,
                exclude_item_ids=exclude,
            )
        )

    def for_item(
        self, item_id: str, k: int = 0, *, viewer_id: str = "", exclude: Iterable[str] = ()
    ) -> Answer:
        """Items similar to one; without those that ``viewer_id`` has seen, where given."""
        return self._ask(
            pb.RetrieveRequest(
                item_id=item_id,
                max_candidates=k,
                exclude_seen=bool(viewer_id),
                viewer_id=viewer_id,
                exclude_item_ids=exclude,
            )
        )

    def record(self, interactions: Iterable[tuple[str, str]]) -> int:
        """Record what users have seen: pairs of user id and item id, up to 1,000 in a call.

        Returns how many had not been recorded before. A call that failed may be repeated.
        """
        request = interaction_service_pb2.RecordInteractionsRequest()
        for user_id, item_id in interactions:
            request.interactions.add(user_id=user_id, item_id=item_id)
        response = self._interactions.RecordInteractions(
            request, timeout=self._timeout_s, metadata=self._metadata
        )
        return int(response.new_interactions)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, request: pb.RetrieveRequest) -> Answer:
        response = self._stub.Retrieve(request, timeout=self._timeout_s, metadata=self._metadata)
        return Answer(
            candidates=[Candidate(one.item_id, one.score) for one in response.candidates],
            personal=response.origin == pb.ORIGIN_MODEL,
            model_version=response.model_version,
        )


def channel(
    address: str, credentials: Credentials, options: Sequence[tuple[str, Any]] = ()
) -> grpc.Channel:
    """A channel to a service: with TLS, where the credentials have root certificates."""
    if credentials.root_certificates is None:
        return grpc.insecure_channel(address, options)
    if credentials.server_name:
        options = [*options, ("grpc.ssl_target_name_override", credentials.server_name)]
    tls = grpc.ssl_channel_credentials(
        credentials.root_certificates, credentials.private_key, credentials.certificate_chain
    )
    return grpc.secure_channel(address, tls, options)


def metadata(credentials: Credentials) -> tuple[tuple[str, str], ...]:
    """What goes with each call."""
    return (("authorization", f"Bearer {credentials.token}"),) if credentials.token else ()
