"""The names on which trainer, model server and query service agree.

Signatures and their tensors, and the files under MODELS_DIR. Everything here is
part of a published contract: other programs rely on it. Standard library only.

Signatures (B: batch size, K: the largest ``k`` of the batch):

=============================  ==================================  ==========================
signature                      inputs                              outputs
=============================  ==================================  ==========================
``by_user``,                   ``user_id`` string [B], ``k``       ``item_id`` string [B, K],
``serving_default``            int32 [B]                           ``score`` float32 [B, K],
                                                                   ``known`` bool [B]
``by_item``                    ``item_id`` string [B], ``k``       the same
                               int32 [B]
=============================  ==================================  ==========================

A row with fewer than K results is filled up at its end with item id ``""`` and
score ``-inf``.
"""

from typing import Final

# Signatures.
BY_USER: Final = "by_user"
BY_ITEM: Final = "by_item"
SERVING_DEFAULT: Final = "serving_default"

# Input and output tensors.
USER_ID: Final = "user_id"
ITEM_ID: Final = "item_id"
K: Final = "k"
SCORE: Final = "score"
KNOWN: Final = "known"

#: Fills the end of a row that has fewer results than the widest row.
FILLER_ITEM_ID: Final = ""

#: The largest ``k`` that a signature accepts; above it: INVALID_ARGUMENT.
MAX_K: Final = 1_000_000

#: An id longer than this is refused, by the trainer and by the service.
MAX_ID_BYTES: Final = 256

# Models, as named in models.config and in requests.
RETRIEVAL: Final = "retrieval"
RETRIEVAL_EXACT: Final = "retrieval_exact"
MODEL_NAMES: Final = (RETRIEVAL, RETRIEVAL_EXACT)

# Files under MODELS_DIR.
MODELS_CONFIG: Final = "models.config"
REPORTS: Final = "reports"
METRICS_JSON: Final = "metrics.json"
ITEMS_CSV: Final = "items.csv"
SEEN_SQLITE: Final = "seen.sqlite"

# Files of one model version.
ASSETS_EXTRA: Final = "assets.extra"
WARMUP_REQUESTS: Final = "tf_serving_warmup_requests"
MANIFEST_JSON: Final = "manifest.json"

#: Schema of seen.sqlite. ``ROWID`` is left out: the primary key is the table.
SEEN_SCHEMA: Final = """
CREATE TABLE seen (
    user_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    PRIMARY KEY (user_id, item_id)
) WITHOUT ROWID
"""
SEEN_QUERY: Final = "SELECT item_id FROM seen WHERE user_id = ?"
