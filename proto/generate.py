"""Generate the Python code next to each .proto file: messages, type stubs and gRPC stubs.

    python proto/generate.py [--out DIR]

The results are committed, so that installing the project needs no compiler. A test fails if they
differ from the output of this command.
"""

import argparse
import sys
from importlib.resources import files
from pathlib import Path

from google.rpc import status_pb2
from grpc_tools import protoc

PROTO_ROOT = Path(__file__).parent


def generate(out: Path) -> None:
    """Compile every .proto file under this folder into ``out``."""
    well_known = files("grpc_tools") / "_proto"
    # The package googleapis-common-protos contains google/rpc/*.proto.
    googleapis = Path(status_pb2.__file__).parent.parent.parent
    for source in sorted(PROTO_ROOT.rglob("*.proto")):
        name = str(source.relative_to(PROTO_ROOT))
        includes = [f"-I{PROTO_ROOT}", f"-I{well_known}", f"-I{googleapis}"]
        outputs = [f"--python_out={out}", f"--pyi_out={out}"]
        if "\nservice " in source.read_text(encoding="utf-8"):
            outputs.append(f"--grpc_python_out={out}")
        if protoc.main(["protoc", *includes, *outputs, name]) != 0:
            sys.exit(f"protoc failed on {name}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--out", type=Path, default=PROTO_ROOT, help="Write the results below this folder."
    )
    generate(parser.parse_args().out)
