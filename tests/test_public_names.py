"""The names that other programs rely on.

A failure means that a public name was removed, renamed or added. Never remove or rename one; add
a new name to the list here.
"""

import argparse
import dataclasses
import inspect
from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import FileDescriptor

from model_server.cli import make_parser as model_server_parser
from query_service import client
from query_service.cli.main import make_parser as query_service_parser
from query_service.telemetry.metrics import Metrics
from retrieval.v1 import interaction_service_pb2, retrieval_service_pb2
from trainer.cli.main import parser as trainer_parser

#: By command, its flags and positional arguments.
ARGUMENTS = {
    "query_service serve": """
        --cache-age-s --cache-size --default-candidates --fallback --grace-s --heartbeat-file --host
        --insecure --lame-duck-s --log-format --max-candidates --max-concurrent-requests
        --metrics-host --metrics-port --model --model-server --model-server-ca --model-server-cert
        --model-server-key --model-server-name --port --runtime --seen-store --slow-ms --timeout-s
        --tls-cert --tls-client-ca --tls-key --tokens --transport --unknown-user --workers
    """,
    "query_service ask": """
        --address --exclude --exclude-seen --item --items --json --recent --timeout-s --tls-ca
        --tls-cert --tls-key --tls-name --token-file --user --viewer -k
    """,
    "query_service health": """
        --address --timeout-s --tls-ca --tls-cert --tls-key --tls-name --token-file
    """,
    "query_service bench": """
        --address --batch --concurrency --connections --duration --exclude --exclude-seen --items
        --json --processes --rate --timeout-s --tls-ca --tls-cert --tls-key --tls-name --token-file
        --users --warm-up -k
    """,
    "query_service seen import": "--seen-store file",
    "query_service seen add": "--seen-store user items",
    "query_service seen show": "--seen-store user",
    "query_service seen forget": "--seen-store user",
    "query_service token": "name",
    "trainer run": """
        --config --data-dir --dataset --interactions --items --log-dir --models-dir --override-gate
        --seed --set --users
    """,
    "trainer tune": """
        --budget-minutes --config --data-dir --dataset --interactions --items --metric --output
        --seed --set --trials --users
    """,
    "trainer index": "--embeddings --ids --models-dir --queries --set",
    "trainer refresh": "--items --models-dir --remove --version",
    "trainer versions": "--json --models-dir",
    "trainer promote": "--models-dir --reason version",
    "trainer rollback": "--models-dir --reason --to",
    "trainer gc": "--keep --models-dir",
    "trainer verify": "--files-only --models-dir version",
    "model_server": """
        --grace-s --host --max-concurrent-rpcs --max-workers --model --models-dir --poll-interval-s
        --port --require-manifest --ssl-config-file
    """,
}

#: By metric, its labels.
METRICS = {
    "shortlist_answer_candidates": "",
    "shortlist_answers_total": "origin",
    "shortlist_batch_results_total": "status",
    "shortlist_cache_lookups_total": "result",
    "shortlist_excluded_items": "",
    "shortlist_fallbacks_total": "",
    "shortlist_model_version": "",
    "shortlist_predict_depth": "",
    "shortlist_predict_duration_seconds": "signature",
    "shortlist_predict_queries": "",
    "shortlist_predicts_total": "status",
    "shortlist_process_cpu_seconds_total": "",
    "shortlist_process_resident_memory_bytes": "",
    "shortlist_queries_waiting": "",
    "shortlist_refetches_total": "",
    "shortlist_request_duration_seconds": "method",
    "shortlist_requests_in_flight": "",
    "shortlist_requests_total": "method status",
    "shortlist_seen_store_errors_total": "reason",
    "shortlist_seen_store_read_duration_seconds": "",
    "shortlist_serving": "",
    "shortlist_worker_starts_total": "",
    "shortlist_workers": "",
}

#: By service, its methods; by message, the numbers and names of its fields; by enum, its values.
PROTOS = {
    "RetrievalService": "Retrieve BatchRetrieve",
    "RetrieveRequest": "1=user_id 2=item_id 3=max_candidates 4=exclude_seen "
    "5=exclude_item_ids 6=viewer_id 7=recent_item_ids",
    "RetrieveResponse": "1=candidates 2=origin 3=model_version",
    "Candidate": "1=item_id 2=score",
    "BatchRetrieveRequest": "1=requests",
    "BatchRetrieveResponse": "1=results",
    "BatchRetrieveResult": "1=response 2=error",
    "Origin": "0=ORIGIN_UNSPECIFIED 1=ORIGIN_MODEL 2=ORIGIN_POPULARITY",
    "InteractionService": "RecordInteractions",
    "RecordInteractionsRequest": "1=interactions",
    "RecordInteractionsResponse": "1=new_interactions",
    "Interaction": "1=user_id 2=item_id",
}

#: By class of query_service.client, its public methods with their parameters, or its fields.
CLIENT = {
    "Candidate": "item_id score",
    "Answer": "candidates personal model_version",
    "RetrievalClient": "address timeout_s token root_certificates certificate_chain private_key "
    "server_name",
    "RetrievalClient.for_user": "user_id k recent exclude_seen exclude",
    "RetrievalClient.for_item": "item_id k viewer_id exclude",
    "RetrievalClient.record": "interactions",
    "RetrievalClient.close": "",
}


def _arguments(
    parser: argparse.ArgumentParser, command: str
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the arguments of every command that has some."""
    names: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, subparser in action.choices.items():
                yield from _arguments(subparser, f"{command} {name}")
        else:
            names += action.option_strings or [action.dest]
    names = sorted(set(names) - {"-h", "--help"})
    if names:
        yield command, tuple(names)


def test_command_line_arguments() -> None:
    found = {
        **dict(_arguments(query_service_parser(), "query_service")),
        **dict(_arguments(trainer_parser(), "trainer")),
        **dict(_arguments(model_server_parser(), "model_server")),
    }
    assert found == {name: tuple(sorted(text.split())) for name, text in ARGUMENTS.items()}


def test_metric_names_and_labels() -> None:
    metrics = Metrics()
    metrics.method("Retrieve")
    assert {series.name: tuple(series.labels) for series in metrics.registry.series} == {
        name: tuple(text.split()) for name, text in METRICS.items()
    }


def _described(file: FileDescriptor) -> Iterator[tuple[str, str]]:
    for service in file.services_by_name.values():
        yield service.name, " ".join(method.name for method in service.methods)
    for message in file.message_types_by_name.values():
        yield message.name, " ".join(f"{field.number}={field.name}" for field in message.fields)
    for enum in file.enum_types_by_name.values():
        yield enum.name, " ".join(f"{value.number}={value.name}" for value in enum.values)


@pytest.mark.parametrize(
    "file", [retrieval_service_pb2.DESCRIPTOR, interaction_service_pb2.DESCRIPTOR]
)
def test_proto_names_and_numbers(file: FileDescriptor) -> None:
    assert file.package == "retrieval.v1"
    for name, text in _described(file):
        assert text == PROTOS.get(name), name


def test_every_listed_proto_name_exists() -> None:
    files = (retrieval_service_pb2.DESCRIPTOR, interaction_service_pb2.DESCRIPTOR)
    assert {name for file in files for name, _ in _described(file)} == set(PROTOS)


def test_python_client() -> None:
    found = {
        "Candidate": [one.name for one in dataclasses.fields(client.Candidate)],
        "Answer": [one.name for one in dataclasses.fields(client.Answer)],
        "RetrievalClient": list(inspect.signature(client.RetrievalClient).parameters),
    }
    for name, method in vars(client.RetrievalClient).items():
        if not name.startswith("_"):
            parameters = [one for one in inspect.signature(method).parameters if one != "self"]
            found[f"RetrievalClient.{name}"] = parameters
    assert found == {name: text.split() for name, text in CLIENT.items()}
