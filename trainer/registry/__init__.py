"""Versions under MODELS_DIR: built aside, judged, published, taken back, cleaned up."""
