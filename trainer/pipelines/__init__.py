"""The pipelines of `run`, `index` and `refresh`, from input data to a published version.

run               trains a model on interactions and publishes it
index             publishes vectors that another program computed
refresh           publishes a version with changed items, without training
catalogue_change  adds, updates and removes items in a stored catalogue
build             builds both indexes, exports both models, and sets up the publication
"""
