"""The pipelines of `run`, `index` and `refresh`, from input data to a published version.

run               trains a model on interactions
index             indexes vectors that another program made
refresh           changes the items of a published version without training
catalogue_change  adds, updates and removes items of a stored catalogue
build             tunes the index, exports both models, and connects these steps of a publication
"""
