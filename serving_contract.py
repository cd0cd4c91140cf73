"""The names that the trainer, the model server and the query service share.

They are the names of signatures, tensors and files under MODELS_DIR. Other programs rely on them,
so names may be added, but never removed or renamed. This module uses the standard library only.

Signatures (B: batch size, K: largest ``k`` in the batch, H: history width, D: embedding size):

=============================  ==================================  ==========================
signature                      inputs                              outputs
=============================  ==================================  ==========================
``by_user``,                   ``user_id`` string [B], ``k``       ``item_id`` string [B, K],
``serving_default``            int32 [B]                           ``score`` float32 [B, K],
                                                                   ``known`` bool [B]
``by_item``                    ``item_id`` string [B], ``k``       the same, without the item
                               int32 [B]                           itself
``by_history``                 ``history`` string [B, H], ``k``    the same
                               int32 [B]
``by_user_and_history``        ``user_id`` string [B],             the same
                               ``history`` string [B, H], ``k``
                               int32 [B]
``by_vector``                  ``vector`` float32 [B, D], ``k``    the same, all ``known``
                               int32 [B]
=============================  ==================================  ==========================

A model that was built from vectors alone has only ``by_vector`` and ``by_item``.

Each row holds the results of one query, best first. A row with fewer than K results is padded with
the item id ``""`` and the score ``-inf``. ``known`` is false if no id of the query is in the
vocabulary. Such a row holds the most popular items, except for ``by_item``, where it is empty.

``history`` lists the items that a user interacted with most recently, the newest last. H may be
any width, 0 included, and ``""`` is padding. If an item occurs more than once, its last occurrence
counts. ``by_user_and_history`` appends ``history`` to the history that the model stores for the
user; for an unknown user it uses ``history`` alone, and ``known`` is true if any of its items is in
the vocabulary.
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

#: Pads rows that have fewer results, or a shorter history, than the longest row of the batch.
FILLER_ITEM_ID: Final = ""

#: The largest ``k`` that a signature accepts. A larger ``k`` fails with INVALID_ARGUMENT.
MAX_K: Final = 1_000_000

#: The maximum size of an id in UTF-8, in both the trainer and the query service.
MAX_ID_BYTES: Final = 256

# Names of models in models.config and in requests.
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

#: The directory of all versions, and the symbolic link to the version that is served. The other
#: entries of MODELS_DIR are links to files in that version, through this link.
VERSIONS: Final = "versions"
CURRENT: Final = "current"

# Files of one model version.
ASSETS_EXTRA: Final = "assets.extra"
WARMUP_REQUESTS: Final = "tf_serving_warmup_requests"
MANIFEST_JSON: Final = "manifest.json"
#: The manifest.json entry that maps the path of each other file to its SHA-256 in hexadecimal.
MANIFEST_FILES: Final = "files"

#: The schema of seen.sqlite. WITHOUT ROWID stores each row only once, in the primary key index.
SEEN_SCHEMA: Final = """
CREATE TABLE seen (
    user_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    PRIMARY KEY (user_id, item_id)
) WITHOUT ROWID
"""
SEEN_QUERY: Final = "SELECT item_id FROM seen WHERE user_id = ?"
