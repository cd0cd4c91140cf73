"""The way to the model server, each part a ``Model`` or what stands behind one.

caching.py          remembers rows
joining.py          makes one Predict of many queries
model_client.py     speaks TensorFlow Serving
tensor_content.py   reads the packed form of its tensors
"""
