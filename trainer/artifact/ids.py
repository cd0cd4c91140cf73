"""The id table inside a SavedModel, for lookups from id to row and from row to id."""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


class IdTable(tf.Module):
    """Maps ids to rows, and rows to ids.

    The table uses only TensorFlow 2.11 ops, so that older model servers can load it.
    """

    def __init__(self, ids: NDArray[np.object_] | NDArray[np.bytes_], name: str) -> None:
        """Create a table of N distinct, non-empty ids, which are str objects or UTF-8 bytes."""
        super().__init__(name=name)
        self._ids = tf.Variable(tf.constant(ids, tf.string), trainable=False, name=name)
        self._rows = tf.lookup.StaticHashTable(_VariableInitializer(self._ids), default_value=-1)

    def rows(self, ids: tf.Tensor) -> tf.Tensor:
        """Return the row of each id: string [...] -> int32 [...]. Unknown ids have row -1."""
        return self._rows.lookup(ids)

    def ids(self, rows: tf.Tensor) -> tf.Tensor:
        """Return the id in each row: int32 [...] -> string [...]. It is undefined for rows < 0."""
        return tf.gather(self._ids, tf.maximum(rows, 0))


class _VariableInitializer(tf.lookup.KeyValueTensorInitializer):
    """Fills a lookup table from a variable when the model is loaded.

    A tensor of ids would be stored in the graph, which is limited to 2 GB.
    """

    def __init__(self, ids: tf.Variable) -> None:
        # TensorFlow forbids empty tables, so the table always contains "", which is not an id.
        super().__init__([""], [-1], key_dtype=tf.string, value_dtype=tf.int32)
        self._variable = ids

    def initialize(self, table: Any) -> Any:
        keys = tf.concat([[""], self._variable], axis=0)
        rows = tf.range(tf.size(keys)) - 1
        return tf.raw_ops.LookupTableImportV2(
            table_handle=table.resource_handle, keys=keys, values=rows
        )
