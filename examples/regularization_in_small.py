# %% [markdown]
# # What counts is regularization
# How well can an autoencoder fit its training data? If its output is linear and the layer before it has K units, its
# predictions are a matrix of rank K, and the best matrix of rank K is known: a truncated singular value decomposition,
# which a *linear* autoencoder reaches. Depth gains nothing there (Steck & Garcia Garcia 2021, arXiv 2110.11402).
# A recommender is wanted for something else: the items that it has not seen.

# %%
import numpy as np

import jaxrec
from jaxrec.data.splits import strong_generalization
from jaxrec.deep import excess

train, test, _ = strong_generalization(jaxrec.load("msweb"), n_heldout=1000)


def ndcg(fitted):
    report = jaxrec.evaluate(fitted, *test, "ndcg@100")
    return f"ndcg@100 {report.mean['ndcg@100']:.4f} +- {report.standard_error['ndcg@100']:.4f}"


# %% [markdown]
# Four networks with a last hidden layer of 16 units, linear or deep, without and with regularization (half of a
# history dropped, at random, in every step). `excess` sets the training loss beside the linear optimum, and the
# ranking is of users who were not trained on.

# %%
common = dict(decoder=(), loss="squared", learning_rate=1e-2, batch_size=250, epochs=20, schedule="cosine")
networks = {
    "linear": dict(encoder=(16,), activation="linear", dropout=0.0),
    "deep": dict(encoder=(64, 16), activation="tanh", dropout=0.0),
    "linear, dropout": dict(encoder=(16,), activation="linear", dropout=0.5),
    "deep, dropout": dict(encoder=(64, 16), activation="tanh", dropout=0.5),
}
for name, settings in networks.items():
    fitted = jaxrec.Autoencoder(**common, **settings).fit(train)
    found = excess(fitted, train)
    print(f"{name:16} training loss {found.ratio:.3f} of the linear optimum, {ndcg(fitted)}")

# %% [markdown]
# Now without a bottleneck. A linear autoencoder of full rank can copy its input, a training error of nearly nothing,
# from which nothing can be learned about other items. Same model, more regularization: worse on what it was fitted
# to, better on what it is for. EASE forbids the copying outright, and EDLAE unlearns it by dropping items.

# %%
full_rank = {
    "LAE, reg 0.1": jaxrec.Lae(reg=0.1),
    "LAE, reg 1000": jaxrec.Lae(reg=1000.0),
    "EASE, reg 100": jaxrec.Ease(reg=100.0),
    "EDLAE, reg 10": jaxrec.Edlae(reg=10.0, dropout=0.5),
}
x = train.to_csr()
for name, method in full_rank.items():
    fitted = method.fit(train)
    error = np.sum((x.toarray() - x @ np.asarray(fitted.model.weights)) ** 2) / x.nnz
    print(f"{name:16} training error {error:7.3%} of the squares, {ndcg(fitted)}")
