"""The two-tower model and its training; independent of indexes and of exported models.

The query tower embeds users, and the candidate tower embeds items. The dot product of a query and a
candidate embedding is the score. Both towers are trained on interactions. Similar items are found
with the candidate tower and, if so configured, a separate query embedding for every item.

towers        the query tower and the candidate tower
training      turns interactions into training steps, and runs them
two_tower     the model with both towers and their loss
item_to_item  query embeddings of items, for similar items
"""
