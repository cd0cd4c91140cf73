"""Rows -> towers -> vectors -> index -> version: trains and exports the models."""

from trainer import legacy_keras

legacy_keras.require()
