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
``by_item``                    ``item_id`` string [B], ``k``       the same; without the item
                               int32 [B]                           itself
``by_history``                 ``history`` string [B, H], ``k``    the same
                               int32 [B]
``by_user_and_history``        ``user_id`` string [B],             the same
                               ``history`` string [B, H], ``k``
                               int32 [B]
``by_vector``                  ``vector`` float32 [B, D], ``k``    the same, all ``known``
                               int32 [B]
=============================  ==================================  ==========================

Models that were made of vectors alone have ``by_vector`` and ``by_item`` only.

A row with fewer than K results is filled up at its end with item id ``""`` and
score ``-inf``. ``known`` is false where nothing in the query is in the
vocabulary; for all but ``by_item`` the row then holds the most popular items.

``history`` is what a user did last, newest last; H is any width, 0 included, and
``""`` is padding; an item that comes twice counts where it comes last.
``by_user_and_history`` joins it with what the model knows of the user, and is the newer
part; for an unknown user it stands alone, and ``known`` is true where any of its items
is in the vocabulary.
"""

from typing import Final

# Signatures.
BY_USER: Final = "by_user"
BY_ITEM: Final = "by_item"
BY_HISTORY: Final = "by_history"
BY_USER_AND_HISTORY: Final = "by_user_and_history"
BY_VECTOR: Final = "by_vector"
SERVING_DEFAULT: Final = "serving_default"

# Input and output tensors.
USER_ID: Final = "user_id"
ITEM_ID: Final = "item_id"
HISTORY: Final = "history"
VECTOR: Final = "vector"
K: Final = "k"
SCORE: Final = "score"
KNOWN: Final = "known"

#: Fills the end of a row that has fewer results, or a shorter history, than the widest row.
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
TOWERS: Final = "towers"
ITEMS_CSV: Final = "items.csv"
SEEN_SQLITE: Final = "seen.sqlite"

#: Whole versions, and the link to the one that is served. The names above lead through it.
VERSIONS: Final = "versions"
CURRENT: Final = "current"

# Files of one model version.
ASSETS_EXTRA: Final = "assets.extra"
WARMUP_REQUESTS: Final = "tf_serving_warmup_requests"
MANIFEST_JSON: Final = "manifest.json"
#: In manifest.json: SHA-256, in hexadecimal, of the version's other files, by path from there.
MANIFEST_FILES: Final = "files"

#: Schema of seen.sqlite. ``ROWID`` is left out: the primary key is the table.
SEEN_SCHEMA: Final = """
CREATE TABLE seen (
    user_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    PRIMARY KEY (user_id, item_id)
) WITHOUT ROWID
"""
SEEN_QUERY: Final = "SELECT item_id FROM seen WHERE user_id = ?"
