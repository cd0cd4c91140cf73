"""The two towers, which turn a user or an item into an embedding.

Training uses them as Keras models; exported models use their weights as arrays.

query         the query tower: a user's pooled history, id and features
candidate     the candidate tower: an item's id and features, including items added after training
embedding     the sum of an id embedding and feature embeddings, used by both towers
"""
