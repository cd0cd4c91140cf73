"""Writes the contents of a version: models, side files and the stored towers.

A servable and an index are exported as one SavedModel with named signatures, warm-up requests and a
manifest. This package uses the weights of the towers, but does not depend on how they were trained.

servable.py       Servable and VectorServable: the data that a model needs to answer requests
signatures.py     the signatures of a SavedModel, as TensorFlow modules
query_module.py   the query tower as a TensorFlow module
ids.py            the id table inside a SavedModel
saved_model.py    writes a SavedModel and its manifest.json
warmup.py         writes and reads the warm-up requests of a SavedModel
stored_towers.py  saves and loads the towers that a refresh starts from
side_files.py     writes items.csv and seen.sqlite
"""
