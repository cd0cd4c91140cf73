"""Trains the retrieval models and publishes them as versions that TensorFlow Serving loads.

The data flows through the packages in this order: ``data`` reads interactions, ``model`` trains two
towers on them, ``evaluation`` measures their quality, ``index`` builds a search index, ``artifact``
exports SavedModels, ``probe`` checks the exported models, and ``registry`` publishes them.

cli         one module per command
config      the settings of a run
data        data sets, splits and features
model       the towers and their training
evaluation  metrics and baselines
tuning      hyperparameter search
index       ScaNN and exact indexes
artifact    SavedModels and the files published with them
probe       checks of exported models
registry    versions on disk
pipelines   the steps of run, index and refresh
report      the report of a run
errors      the exceptions that commands report
"""

from trainer import legacy_keras

legacy_keras.require()
