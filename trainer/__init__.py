"""Trains retrieval models and publishes them as versions that TensorFlow Serving can load.

Interactions become a two-tower model (``model``), its vectors an index (``index``), and both
together a version of MODELS_DIR (``registry``). Each command of ``cli`` runs one of ``pipelines``
or manages published versions.

cli         the command line
pipelines   what run, index and refresh do
config      the typed configuration
data        data sets, features, splits and histories
model       the towers, their training and item-to-item similarity
evaluation  ranking metrics and baselines
index       approximate and exact nearest-neighbour search
artifact    what a version contains: SavedModels and side files
probe       asks exported models in a fresh process
registry    versions on disk: publication, quality gate, promotion, rollback
report      metrics.json, the HTML report and terminal tables
tuning      hyperparameter search
errors      the errors that commands report
legacy_keras  makes TensorFlow use Keras 2
"""

from trainer import legacy_keras

legacy_keras.require()
