"""Saves and loads the trained towers of a version, so that `refresh` does not have to train again.

The directory ``towers`` of a version contains two files:

arrays.npz    arrays; an array of texts is stored as concatenated UTF-8 text and its offsets
towers.json   the configuration, the encoding of the item columns, and scalar values
"""

import json
import zipfile
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer import config
from trainer.artifact.servable import Servable, keep_items
from trainer.config import Config
from trainer.data.features import FeatureEncoder
from trainer.data.histories import Histories
from trainer.errors import DataError
from trainer.model.towers.candidate import ItemTowers
from trainer.model.towers.embedding import EntityWeights
from trainer.model.towers.query import QueryWeights

_ARRAYS = "arrays.npz"
_VALUES = "towers.json"
# Increase this number if a change makes existing files unreadable.
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class StoredTowers:
    """The towers of a version for its whole catalogue of N items.

    The catalogue includes the items that the exported models leave out, because a refresh may give
    these items features that the towers know.

    Attributes:
        servable: the query tower, candidate vectors and ids.
        titles: str objects [N], the titles of the items.
        items: the weights for embedding new items by their features.
        config: the configuration of the run, with all automatic choices made.
    """

    servable: Servable
    titles: NDArray[np.object_]
    items: ItemTowers
    config: Config

    def keep_items(self, kept: NDArray[np.bool_]) -> "StoredTowers":
        """Return the towers with only the items in the mask ``kept``, bool [N]."""
        return replace(
            self,
            servable=keep_items(self.servable, kept),
            titles=self.titles[kept],
            items=self.items.take(np.flatnonzero(kept)),
        )


def save(directory: Path, towers: StoredTowers) -> None:
    """Write the towers into ``directory``, which must not exist yet."""
    servable, query, items = towers.servable, towers.servable.query, towers.items
    arrays: dict[str, NDArray[Any] | None] = {
        **_text_arrays("user_ids", servable.user_ids),
        **_text_arrays("item_ids", servable.item_ids),
        **_text_arrays("titles", towers.titles),
        "base": query.base,
        "item_vectors": query.item_vectors,
        "item_log_weights": query.item_log_weights,
        "age_log_weights": query.age_log_weights,
        "user_vectors": query.user_vectors,
        "history_offsets": servable.histories.offsets,
        "history_items": servable.histories.items,
        "history_ratings": servable.histories.ratings,
        "candidate_vectors": servable.candidate_vectors,
        "popularity": servable.popularity,
        "item_queries": servable.item_queries,
        "trained": items.trained,
        **_weight_arrays("candidate", items.candidate, items.trained),
        **(_weight_arrays("history", items.history, items.trained) if items.history else {}),
    }
    values = {
        "format": _FORMAT,
        "config": config.as_dict(towers.config),
        "item_features": items.encoder.as_list(),
        "query": {
            "exponent": query.exponent,
            "history_length": query.history_length,
            "normalize": query.normalize,
        },
    }
    directory.mkdir()
    present: dict[str, Any] = {name: array for name, array in arrays.items() if array is not None}
    np.savez(directory / _ARRAYS, **present)
    (directory / _VALUES).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def load(directory: Path) -> StoredTowers:
    """Return exactly the towers that :func:`save` wrote.

    Raises:
        DataError: the directory is missing, damaged or in the format of another release.
    """
    try:
        values = json.loads((directory / _VALUES).read_text(encoding="utf-8"))
        if values["format"] != _FORMAT:
            raise DataError(
                f"{directory} was written by another release of the trainer; train a new version "
                f"with `run`"
            )
        with np.load(directory / _ARRAYS, allow_pickle=False) as file:
            return _from_arrays(values, dict(file))
    except FileNotFoundError as error:
        raise DataError(
            f"{error.filename}: no such file; the version was published by a release that did not "
            f"store towers, so it has to be trained again with `run`"
        ) from error
    except (OSError, EOFError, ValueError, KeyError, RecursionError, zipfile.BadZipFile) as error:
        raise DataError(f"{directory} cannot be read: {error}") from error


def _from_arrays(values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> StoredTowers:
    settings = config.from_dict(values["config"])
    trained = arrays["trained"]
    has_history = "history_ids" in arrays
    return StoredTowers(
        servable=Servable(
            query=QueryWeights(
                base=arrays["base"],
                item_vectors=arrays.get("item_vectors"),
                item_log_weights=arrays["item_log_weights"],
                age_log_weights=arrays["age_log_weights"],
                user_vectors=arrays.get("user_vectors"),
                **values["query"],
            ),
            user_ids=_texts("user_ids", arrays),
            histories=Histories(
                arrays["history_offsets"], arrays["history_items"], arrays.get("history_ratings")
            ),
            candidate_vectors=arrays["candidate_vectors"],
            item_ids=_texts("item_ids", arrays),
            popularity=arrays["popularity"],
            item_queries=arrays.get("item_queries"),
        ),
        titles=_texts("titles", arrays),
        items=ItemTowers(
            encoder=FeatureEncoder.from_list(values["item_features"]),
            trained=trained,
            candidate=_entity_weights("candidate", arrays, trained),
            history=_entity_weights("history", arrays, trained) if has_history else None,
            config=settings.model,
        ),
        config=settings,
    )


def _text_arrays(name: str, texts: NDArray[np.object_]) -> dict[str, NDArray[Any]]:
    encoded = [text.encode("utf-8") for text in texts]
    return {
        f"{name}_utf8": np.frombuffer(b"".join(encoded), np.uint8),
        f"{name}_offsets": np.cumsum([0, *map(len, encoded)], dtype=np.int64),
    }


def _texts(name: str, arrays: dict[str, NDArray[Any]]) -> NDArray[np.object_]:
    data, offsets = arrays[f"{name}_utf8"].tobytes(), arrays[f"{name}_offsets"].tolist()
    texts: NDArray[np.object_] = np.empty(len(offsets) - 1, object)
    for row, (start, end) in enumerate(pairwise(offsets)):
        texts[row] = data[start:end].decode("utf-8")
    return texts


def _weight_arrays(
    name: str, weights: EntityWeights, trained: NDArray[np.bool_]
) -> dict[str, NDArray[Any]]:
    # Items without training rows have a zero vector, which is not stored.
    return {f"{name}_ids": weights.ids[trained], f"{name}_features": weights.features}


def _entity_weights(
    name: str, arrays: dict[str, NDArray[Any]], trained: NDArray[np.bool_]
) -> EntityWeights:
    trained_ids = arrays[f"{name}_ids"]
    ids = np.zeros((len(trained), trained_ids.shape[1]), trained_ids.dtype)
    ids[trained] = trained_ids
    return EntityWeights(ids, arrays[f"{name}_features"])
