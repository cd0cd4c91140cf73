"""The ids of the catalogue inside a SavedModel: kept once, for names and for look-ups."""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


class Ids(tf.Module):
    """Distinct ids and their rows.

    Only ops of TensorFlow 2.11, so that older model servers load it.
    """

    def __init__(self, ids: NDArray[np.object_] | NDArray[np.bytes_], name: str) -> None:
        """Of ``ids``, str objects or UTF-8 bytes [N], distinct, none empty."""
        super().__init__(name=name)
        self._names = tf.Variable(tf.constant(ids, tf.string), trainable=False, name=name)
        self._rows = tf.lookup.StaticHashTable(_FromVariable(self._names), default_value=-1)

    def rows(self, ids: tf.Tensor) -> tf.Tensor:
        """string [...] -> int32 [...], -1 for unknown ids."""
        return self._rows.lookup(ids)

    def names(self, rows: tf.Tensor) -> tf.Tensor:
        """int32 [...] -> string [...]; of rows below 0, anything."""
        return tf.gather(self._names, tf.maximum(rows, 0))


class _FromVariable(tf.lookup.KeyValueTensorInitializer):
    """Fills the table from a variable when the model is loaded.

    Keys that are given as a tensor end in the graph as a second copy, and a graph holds 2 GB.
    """

    def __init__(self, names: tf.Variable) -> None:
        # A table may not be empty, so it always holds "", which is no id.
        super().__init__([""], [-1], key_dtype=tf.string, value_dtype=tf.int32)
        self._variable = names

    def initialize(self, table: Any) -> Any:
        keys = tf.concat([[""], self._variable], axis=0)
        rows = tf.range(tf.size(keys)) - 1
        return tf.raw_ops.LookupTableImportV2(
            table_handle=table.resource_handle, keys=keys, values=rows
        )
