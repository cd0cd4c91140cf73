"""Train a model, serve it and ask for candidates. ``make demo`` runs this."""

import argparse
import contextlib
import subprocess
import sys
import threading
from pathlib import Path

# `python examples/demo.py` puts examples/ on the path, but not the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.processes import ROOT, ProcessError, Server, environment, python_module

MODEL_SERVER_PORT = 8500
QUERY_SERVICE_PORT = 50051


def main() -> None:
    """Train a model, start both servers, send four requests, and stop the servers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", help="Read MovieLens 100K from this directory.")
    parser.add_argument(
        "--models-dir",
        type=Path,
        default=ROOT / "models",
        help="Publish the models in this directory.",
    )
    parser.add_argument(
        "--keep", action="store_true", help="Keep the servers running until Ctrl-C."
    )
    arguments = parser.parse_args()
    data = ["--data-dir", arguments.data_dir] if arguments.data_dir else []
    models = str(arguments.models_dir)

    title("Train two towers, build the indexes, export and verify")
    run("trainer run", "--dataset", "auto", *data, "--models-dir", models)

    title("Serve")
    model_server = f"127.0.0.1:{MODEL_SERVER_PORT}"
    seen_store = f"sqlite:{models}/seen.sqlite"
    options = ("--model-server", model_server, "--seen-store", seen_store)
    with (
        serve("model_server", "--models-dir", models, "--port", f"{MODEL_SERVER_PORT}"),
        serve("query_service serve", "--port", f"{QUERY_SERVICE_PORT}", *options),
    ):
        user, item = example_ids(arguments.models_dir / "items.csv")
        for heading, query in (
            (f"Candidates for user {user}", ["--user", user]),
            (f"... without what user {user} has seen", ["--user", user, "--exclude-seen"]),
            (f"Items similar to item {item}", ["--item", item]),
            (
                f"... without what user {user} has seen",
                ["--item", item, "--viewer", user, "--exclude-seen"],
            ),
        ):
            title(heading)
            run("query_service ask", "--items", f"{models}/items.csv", *query)
        if arguments.keep:
            title(f"Serving on 127.0.0.1:{QUERY_SERVICE_PORT} until Ctrl-C")
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
    print(f"\nDone. The models are in {models}; all servers have stopped.")


def example_ids(items_csv: Path) -> tuple[str, str]:
    """Return a user id and an item id from the data set, which is MovieLens or synthetic."""
    if "Star Wars (1977)" in items_csv.read_text(encoding="utf-8"):
        return "42", "50"
    return "u42", "i50"


def title(text: str) -> None:
    """Print a heading."""
    print(f"\n== {text}", flush=True)


def run(module: str, *arguments: str) -> None:
    """Run one of the project's commands, and exit with its status if it fails."""
    print(f"$ python -m {module} {' '.join(arguments)}", flush=True)
    command = python_module(module, *arguments)
    status = subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode
    if status:
        sys.exit(status)


def serve(module: str, *arguments: str) -> Server:
    """Start a server for a ``with`` block, which stops it at the end. Exit if it cannot start."""
    print(f"$ python -m {module} {' '.join(arguments)}", flush=True)
    try:
        server = Server(python_module(module, *arguments))
    except ProcessError as error:
        sys.exit(f"error: {error}")
    print(f"ready on {server.address}", flush=True)
    return server


if __name__ == "__main__":
    main()
