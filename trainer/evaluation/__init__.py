"""How good candidates are on the test rows: exact, over the whole catalogue.

Three definitions, never to be mixed:

``all_items.top_k``
    The share of the test interactions whose item is among the k best of the whole
    catalogue, training items NOT removed: FactorizedTopK of TensorFlow Recommenders.
``unseen_items.top_k``
    The same with the user's training items removed from the ranking. A test
    interaction whose item is also a training item of its user counts as a miss.
``per_user.recall_at_k``, ``per_user.ndcg_at_k``
    Means over users, training items removed: see :class:`PerUser`.
"""

from trainer.evaluation.comparison import Comparison, compare
from trainer.evaluation.quality import TOP_KS, PerUser, Quality, TopK, evaluate
from trainer.evaluation.scorers import Scorer, dot_product_scorer, popularity_scorer

__all__ = [
    "TOP_KS",
    "Comparison",
    "PerUser",
    "Quality",
    "Scorer",
    "TopK",
    "compare",
    "dot_product_scorer",
    "evaluate",
    "popularity_scorer",
]
