# %% [markdown]
# # EASE in ten lines
# Fit, certify, evaluate beside the baseline, recommend. Takes seconds on the data set that is part of the package.

# %%
import jaxrec

data = jaxrec.load("msweb")
train, test, _ = jaxrec.split(data)  # the source's own test visitors
fitted = jaxrec.Ease(reg=100.0).fit(train)
print(fitted.info.certificate)

# %%
for model in (jaxrec.Popularity().fit(train), fitted):
    print(jaxrec.evaluate(model, test.fold_in, test.targets, "calibrated_recall@20,ndcg@100"))

# %% [markdown]
# Recommendations for somebody who is in no data set: a history is all that the model needs. Items are matched by their
# ids, so that it does not matter how data and training part number them.

# %%
history = jaxrec.Interactions.from_lists([[data.items.find("SQL Server")]], data.items)
print(jaxrec.recommend(fitted, history, k=5).titles())
