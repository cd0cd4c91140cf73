"""The two-tower model and its training; independent of indexes and of exported models.

The query tower embeds a user, the candidate tower an item, and the dot product of both is the
score. Training learns both from interactions. Similar items use the candidate tower and, if so
configured, a separate query embedding of every item.

towers        the query tower and the candidate tower
training      turns interactions into training steps, and runs them
two_tower     both towers with their loss
item_to_item  query embeddings of items
"""
