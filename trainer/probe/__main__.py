"""What the fresh process does: prints a JSON object of measurements for each model.

    python -m trainer.probe STAGING_DIR QUESTIONS_DIR

Ends with 1 and a reason if a model answers wrongly.
"""

import json
import sys
from pathlib import Path

from trainer.errors import VerificationError
from trainer.probe.checks import check

try:
    measurements = check(Path(sys.argv[1]), Path(sys.argv[2]))
except VerificationError as failure:
    sys.exit(str(failure))
sys.stdout.write(json.dumps(measurements) + "\n")
