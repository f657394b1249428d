# %% [markdown]
# # Your own data
# From a CSV file with ratings to recommendations by title, and to a saved model that gives the same ones.

# %%
import tempfile
from pathlib import Path

import jaxrec

folder = Path(tempfile.mkdtemp())
loans = folder / "loans.csv"
loans.write_text(
    "reader,book,stars\n"
    "ann,Emma,5\n"
    "ann,Middlemarch,5\n"
    "ann,Ulysses,1\n"
    "bob,Emma,4\n"
    "bob,Middlemarch,4\n"
    "bob,Persuasion,5\n"
    "cem,Dune,5\n"
    "cem,Solaris,4\n"
    "dee,Dune,4\n"
    "dee,Solaris,5\n"
    "dee,Ubik,5\n"
)

# %% [markdown]
# `min_rating` turns the stars into positives. Readers and books keep their names.

# %%
data = jaxrec.load(loans, user="reader", item="book", rating="stars", min_rating=4)
print(data)
fitted = jaxrec.Ease(reg=1.0).fit(data)

# %% [markdown]
# For a reader of the file, and for a stranger who liked one book.

# %%
ann = data.rows([data.user_index("ann")])
stranger = jaxrec.Interactions.from_lists([[data.items.find("Dune")]], data.items)
for history in (ann, stranger):
    print(jaxrec.recommend(fitted, history, k=1).titles())

# %% [markdown]
# A saved model carries the names of its items: the file with the loans is not needed any more. Other data may name
# more items, and in another order: they are matched by id, and what the model does not know is left out with a warning.

# %%
jaxrec.save(folder / "model", fitted)
again = jaxrec.load_model(folder / "model")
stranger = jaxrec.Interactions.from_lists([[again.info.items.find("Dune")]], again.info.items)
print(jaxrec.recommend(again, stranger, k=2).titles())
print(jaxrec.recommend(again, data, k=2).to_polars())
