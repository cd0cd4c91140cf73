"""The pipelines of `run`, `index` and `refresh`, from input data to a published version.

run               trains a model on interactions
index             indexes vectors that another program made
refresh           changes the items of a published version without training
catalogue_change  adds, updates and removes items of a stored catalogue
build             builds the indexes, exports both models, and sets up the publication
"""
