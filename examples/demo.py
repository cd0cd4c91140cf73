"""The whole of Shortlist in one go: train, export, serve, ask. Run by ``make demo``."""

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL_SERVER_PORT = 8500
QUERY_SERVICE_PORT = 50051
_READY_WITHIN_S = 90


def main() -> None:
    """Train into models/, start both servers, ask four questions, stop them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", help="the unpacked MovieLens 100K")
    parser.add_argument("--models-dir", type=Path, default=ROOT / "models")
    parser.add_argument("--keep", action="store_true", help="leave the servers up until Ctrl-C")
    arguments = parser.parse_args()
    data = ["--data-dir", arguments.data_dir] if arguments.data_dir else []
    models = str(arguments.models_dir)

    title("Train two towers, build the indexes, export and verify")
    run("trainer", "run", "--dataset", "auto", *data, "--models-dir", models)

    title("Serve")
    model_port = f"{MODEL_SERVER_PORT}"
    with (
        server("model_server", "--models-dir", models, "--port", model_port),
        server(
            *("query_service", "serve", "--port", f"{QUERY_SERVICE_PORT}"),
            *("--model-server", f"127.0.0.1:{model_port}"),
            *("--seen-store", f"sqlite:{models}/seen.sqlite"),
        ),
    ):
        user, item = example_ids(arguments.models_dir / "items.csv")
        ask = ["query_service", "ask", "--items", f"{models}/items.csv"]
        for heading, question in (
            (f"Candidates for user {user}", ["--user", user]),
            (f"... without what user {user} has seen", ["--user", user, "--exclude-seen"]),
            (f"Items similar to item {item}", ["--item", item]),
            (
                f"... without what user {user} has seen",
                ["--item", item, "--viewer", user, "--exclude-seen"],
            ),
        ):
            title(heading)
            run(*ask, *question)
        if arguments.keep:
            title(f"Serving on 127.0.0.1:{QUERY_SERVICE_PORT} until Ctrl-C")
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    time.sleep(3600)
    print(f"\nDone. What was made is in {models}; nothing is left running.")


def example_ids(items_csv: Path) -> tuple[str, str]:
    """User 42 and Star Wars (1977); where the synthetic set stands in, ids of that."""
    if "Star Wars (1977)" in items_csv.read_text(encoding="utf-8"):
        return "42", "50"
    return "u42", "i50"


def title(text: str) -> None:
    """A heading on the terminal."""
    print(f"\n== {text}", flush=True)


def run(module: str, *arguments: str) -> None:
    """Run a command of the project; end with it if it fails."""
    print(f"$ python -m {module} {' '.join(arguments)}", flush=True)
    status = subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT).returncode
    if status:
        sys.exit(status)


@contextlib.contextmanager
def server(module: str, *arguments: str) -> Iterator[None]:
    """A server that runs for the time of the block, ready when the block begins."""
    print(f"$ python -m {module} {' '.join(arguments)}", flush=True)
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            sys.exit(f"{module} did not start")
        print(line, end="", flush=True)
        yield
    finally:
        process.terminate()
        process.wait(_READY_WITHIN_S)


if __name__ == "__main__":
    main()
