"""Data sets: interactions of users with items, and the features of users and items.

Readers turn files, a download or random numbers into a :class:`types.Dataset`, in which users and
items are integers. Splits hold rows out, histories group rows by user, and features encode the
columns of users and items. Problems in the data raise ``DataError``, whose message names
the file, the line and the column.

source       chooses among the readers
files        reads the user's own interactions, items and users
tables       reads a CSV or Parquet file; refuses missing columns, wrong types and broken text
csv_reader   reads the lines of a CSV file; refuses a wrong number of fields and unclosed quotes
builder      builds a data set from tables; refuses invalid ids, timestamps and ratings
movielens    downloads and reads MovieLens 100K
synthetic    generates a data set with known structure
vectors      reads embeddings from other programs
types        Dataset, Interactions, Split
split        holds rows out for evaluation
histories    the items of each user in time order
features     encodes columns of users and items
columns      the kinds of feature columns
"""
