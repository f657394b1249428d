# %% [markdown]
# # One Gram matrix, many values of `reg`
# The Gram matrix holds all that EASE needs to know of the data, so a sweep over `reg` computes it once. `ease.weights`
# is a pure JAX function of it: here it is compiled once, and called with each value.

# %%
import jax

import jaxrec
from jaxrec import stats
from jaxrec.data.splits import strong_generalization
from jaxrec.linear import ease

# Hyper-parameters are chosen on validation users. The test users stay out of it until the end.
train, test, validation = strong_generalization(jaxrec.load("msweb"), n_heldout=2000)
gram = jax.numpy.asarray(stats.gram(train))
weights = jax.jit(ease.weights)

# %%
metric = "ndcg@100"
found = {}
for reg in (1.0, 10.0, 100.0, 1000.0, 10000.0):
    model = jaxrec.ItemWeights(weights(gram, reg))
    found[reg] = jaxrec.evaluate(model, validation.fold_in, validation.targets, metric).mean[metric]
    print(f"reg {reg:>7g}: {metric} {found[reg]:.4f} on validation users")

# %% [markdown]
# A bare kernel comes without a certificate; the model that is kept is fitted with `fit`, which has one.

# %%
best = max(found, key=found.get)
fitted = jaxrec.Ease(reg=best).fit(train)
print(fitted.info.certificate)
print(jaxrec.evaluate(fitted, test.fold_in, test.targets, metric))
