"""Answer one request: ``python -m trainer.probe REQUEST_FILE``.

The response is written to a file next to the request. If a model fails a check, the process prints
the reason to standard error and exits with status 1.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from trainer.errors import TrainerError
from trainer.probe import exported_models, rankings, stored_version
from trainer.probe.protocol import RESPONSE, Message

ANSWERS: dict[str, Callable[[Message], Message]] = {
    exported_models.CHECK: exported_models.answer,
    rankings.CHECK: rankings.answer,
    stored_version.CHECK: stored_version.answer,
}

if __name__ == "__main__":
    request_file = Path(sys.argv[1])
    request = Message.read(request_file)
    try:
        response = ANSWERS[request.values["check"]](request)
    except TrainerError as error:
        sys.exit(str(error))
    response.write(request_file.with_name(RESPONSE))
