"""The way to the model server, each part a ``Model`` or what stands behind one.

caching.py          remembers rows
joining.py          makes one Predict of many queries
breaker.py          stops asking who does not answer
model_client.py     speaks TensorFlow Serving
channel.py          which server is asked, and what is asked again
popular.py          the most popular items, for when none answers
tensor_content.py   reads the packed form of its tensors
"""
