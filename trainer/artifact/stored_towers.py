"""What a version keeps of its training, so that items can come and go without another.

towers/
  arrays.npz    plain arrays; texts are UTF-8 end to end, with offsets
  towers.json   the configuration, how columns of items are read, single values
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
from trainer.artifact.export import Servable
from trainer.artifact.retrievable import keep
from trainer.config import Config
from trainer.data.features import FeatureEncoder
from trainer.data.histories import Histories
from trainer.data.types import DataError
from trainer.model.towers.embedding import EntityWeights
from trainer.model.towers.item_encoder import ItemTowers
from trainer.model.towers.query import QueryWeights

_ARRAYS = "arrays.npz"
_VALUES = "towers.json"
# To be raised when older files can no longer be read.
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Stored:
    """A version's catalogue of N items, those included that its models leave out.

    Attributes:
        servable: what its models are made of.
        titles: str objects [N].
        items: what the vectors of items are made of.
        config: of the run, with nothing left open.
    """

    servable: Servable
    titles: NDArray[np.object_]
    items: ItemTowers
    config: Config

    def keep(self, kept: NDArray[np.bool_]) -> "Stored":
        """Without the items where ``kept``, bool [N], is false; see :func:`keep`."""
        return replace(
            self,
            servable=keep(self.servable, kept),
            titles=self.titles[kept],
            items=self.items.take(np.flatnonzero(kept)),
        )


def save(directory: Path, stored: Stored) -> None:
    """Write ``directory``, which must not exist yet."""
    servable, query, items = stored.servable, stored.servable.query, stored.items
    arrays: dict[str, NDArray[Any] | None] = {
        **_texts("user_ids", servable.user_ids),
        **_texts("item_ids", servable.item_ids),
        **_texts("titles", stored.titles),
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
        **_weights("candidate", items.candidate, items.trained),
        **_weights("history", items.history, items.trained),
    }
    values = {
        "format": _FORMAT,
        "config": config.as_dict(stored.config),
        "item_features": items.encoder.as_list(),
        "query": {
            "exponent": query.exponent,
            "history_length": query.history_length,
            "normalize": query.normalize,
        },
    }
    directory.mkdir()
    there: dict[str, Any] = {name: one for name, one in arrays.items() if one is not None}
    np.savez(directory / _ARRAYS, **there)
    (directory / _VALUES).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def load(directory: Path) -> Stored:
    """What :func:`save` wrote, to the last bit.

    Raises:
        DataError: it is not there, damaged, or of another release.
    """
    try:
        values = json.loads((directory / _VALUES).read_text(encoding="utf-8"))
        if values["format"] != _FORMAT:
            raise DataError(f"{directory} was written by another release of the trainer: run it")
        with np.load(directory / _ARRAYS, allow_pickle=False) as file:
            return _stored(values, dict(file))
    except FileNotFoundError as error:
        raise DataError(
            f"{error.filename}: no such file; a version of an earlier release, which kept "
            f"nothing to refresh it from, has to be trained again"
        ) from error
    except (OSError, EOFError, ValueError, KeyError, RecursionError, zipfile.BadZipFile) as error:
        raise DataError(f"{directory} cannot be read: {error}") from error


def _stored(values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Stored:
    settings = config.from_dict(values["config"])
    trained = arrays["trained"]
    candidate = _entity_weights("candidate", arrays, trained)
    if candidate is None:
        raise KeyError("candidate_ids")
    return Stored(
        servable=Servable(
            query=QueryWeights(
                base=arrays["base"],
                item_vectors=arrays.get("item_vectors"),
                item_log_weights=arrays["item_log_weights"],
                age_log_weights=arrays["age_log_weights"],
                user_vectors=arrays.get("user_vectors"),
                **values["query"],
            ),
            user_ids=_from_texts("user_ids", arrays),
            histories=Histories(
                arrays["history_offsets"], arrays["history_items"], arrays.get("history_ratings")
            ),
            candidate_vectors=arrays["candidate_vectors"],
            item_ids=_from_texts("item_ids", arrays),
            popularity=arrays["popularity"],
            item_queries=arrays.get("item_queries"),
        ),
        titles=_from_texts("titles", arrays),
        items=ItemTowers(
            encoder=FeatureEncoder.from_list(values["item_features"]),
            trained=trained,
            candidate=candidate,
            history=_entity_weights("history", arrays, trained),
            config=settings.model,
        ),
        config=settings,
    )


def _texts(name: str, texts: NDArray[np.object_]) -> dict[str, NDArray[Any] | None]:
    encoded = [text.encode("utf-8") for text in texts]
    return {
        f"{name}_utf8": np.frombuffer(b"".join(encoded), np.uint8),
        f"{name}_offsets": np.cumsum([0, *map(len, encoded)], dtype=np.int64),
    }


def _from_texts(name: str, arrays: dict[str, NDArray[Any]]) -> NDArray[np.object_]:
    data, offsets = arrays[f"{name}_utf8"].tobytes(), arrays[f"{name}_offsets"].tolist()
    texts: NDArray[np.object_] = np.empty(len(offsets) - 1, object)
    for row, (start, end) in enumerate(pairwise(offsets)):
        texts[row] = data[start:end].decode("utf-8")
    return texts


def _weights(
    name: str, weights: EntityWeights | None, trained: NDArray[np.bool_]
) -> dict[str, NDArray[Any] | None]:
    if weights is None:
        return {}
    # The others' are zeros.
    return {f"{name}_ids": weights.ids[trained], f"{name}_features": weights.features}


def _entity_weights(
    name: str, arrays: dict[str, NDArray[Any]], trained: NDArray[np.bool_]
) -> EntityWeights | None:
    if f"{name}_ids" not in arrays:
        return None
    own = arrays[f"{name}_ids"]
    ids = np.zeros((len(trained), own.shape[1]), own.dtype)
    ids[trained] = own
    return EntityWeights(ids, arrays[f"{name}_features"])
