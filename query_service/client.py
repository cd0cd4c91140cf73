"""A blocking Python client for the query service, with plain values instead of messages."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from retrieval.v1 import interaction_service_pb2, interaction_service_pb2_grpc
from retrieval.v1 import retrieval_service_pb2 as pb
from retrieval.v1 import retrieval_service_pb2_grpc as pb_grpc
from rpc.credentials import Credentials, call_metadata, open_channel


@dataclass(frozen=True)
class Candidate:
    """An item and its score. A higher score is better."""

    item_id: str
    score: float


@dataclass(frozen=True)
class Answer:
    """The answer to one query.

    Attributes:
        candidates: The candidates, best first.
        personal: True if the model ranked the candidates for this query; False if they are popular
            items, because the model does not know the user or is unavailable.
        model_version: The version of the model that answered.
    """

    candidates: list[Candidate]
    personal: bool
    model_version: int


class RetrievalClient:
    """A connection to a query service. Calls that fail raise ``grpc.RpcError``.

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
        """Create a client, which connects at its first call.

        Args:
            address: HOST:PORT of the service.
            timeout_s: The maximum time in seconds to wait for an answer.
            token: The token to send with each call. Without TLS it is sent as plain text.
            root_certificates: The authorities to trust, in PEM. If set, the client uses TLS.
            certificate_chain: The client's certificate in PEM, if the service requires one.
            private_key: The private key of ``certificate_chain``, in PEM.
            server_name: The name in the service's certificate if it is not the host of ``address``.
        """
        self._timeout_s = timeout_s
        credentials = Credentials(
            token, root_certificates, certificate_chain, private_key, server_name
        )
        self._metadata = call_metadata(credentials)
        self._channel = open_channel(address, credentials)
        self._stub = pb_grpc.RetrievalServiceStub(self._channel)
        self._interaction_stub = interaction_service_pb2_grpc.InteractionServiceStub(self._channel)

    def for_user(
        self,
        user_id: str,
        k: int = 0,
        *,
        recent: Iterable[str] = (),
        exclude_seen: bool = False,
        exclude: Iterable[str] = (),
    ) -> Answer:
        """Return the best ``k`` candidates for a user.

        Args:
            user_id: The user.
            k: The maximum number of candidates, or 0 for the server's default.
            recent: The items of the user's last interactions, newest last.
            exclude_seen: Leave out what the user has seen.
            exclude: Ids of items to leave out.
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
        """Return the best ``k`` items that are similar to an item.

        Args:
            item_id: The item.
            k: The maximum number of candidates, or 0 for the server's default.
            viewer_id: Leave out what this user has seen.
            exclude: Ids of items to leave out.
        """
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
        """Record that users have seen items.

        Args:
            interactions: 1 to 1,000 (user id, item id) pairs.

        Returns:
            The number of pairs that had not been recorded before. A failed call may be repeated.
        """
        request = interaction_service_pb2.RecordInteractionsRequest()
        for user_id, item_id in interactions:
            request.interactions.add(user_id=user_id, item_id=item_id)
        response = self._interaction_stub.RecordInteractions(
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
            candidates=[Candidate(item.item_id, item.score) for item in response.candidates],
            personal=response.origin == pb.ORIGIN_MODEL,
            model_version=response.model_version,
        )
