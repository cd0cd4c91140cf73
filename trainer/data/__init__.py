"""Data sets: interactions of users with items, and the features of both.

Readers turn files, a download or a random generator into one :class:`types.Dataset`, in which
users and items are integers. Splits hold rows out, histories group rows by user, and features
encode the columns of users and items. Problems in the data raise ``DataError``, whose message names
the file, the line and the column.

source      chooses among the readers
files       reads the user's own CSV and Parquet files
tables      reads untrusted tables; files is built on it
movielens   downloads and reads MovieLens 100K
synthetic   generates a data set with known structure
vectors     reads embeddings that were made elsewhere
types       Dataset, Interactions, Split
split       holds rows out for evaluation
histories   the items of each user in time order
features    encodes columns of users and items
columns     the kinds of feature columns
"""
