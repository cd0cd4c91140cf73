"""Measures the quality of candidates on test rows, exactly and over the whole catalogue.

There are three kinds of metrics, whose values cannot be compared with one another:

``all_items.top_k``
    The share of test interactions whose item is among the k best of the whole catalogue. The
    user's training items stay in the ranking, as in TensorFlow Recommenders' FactorizedTopK.
``unseen_items.top_k``
    The same share with the user's training items removed from the ranking. A test interaction whose
    item is also a training item of its user counts as a miss.
``per_user.recall_at_k``, ``per_user.ndcg_at_k``
    Means over users, with training items removed: see :class:`PerUser`.

quality     the metrics of one model
ranking     scorers, and the ranks of test items, from which all metrics are computed
comparison  several models side by side, also by slices of the test rows
baselines   simple models that a trained model should beat
"""

from trainer.evaluation.comparison import Comparison, compare
from trainer.evaluation.quality import TOP_KS, PerUser, Quality, TopK, evaluate
from trainer.evaluation.ranking import Scorer, dot_product_scorer, popularity_scorer

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
