# %% [markdown]
# # One Gram matrix, many models
# The Gram matrix counts how often two items meet in one history. It holds all that a closed form needs to know of the
# data, however many users there are, so it is computed once and then serves every model and every value of `reg`.

# %%
import jax

import jaxrec
from jaxrec.closed_form.gram import gram_matrix
from jaxrec.data.splits import strong_generalization
from jaxrec.linear import ease, edlae

# Hyper-parameters are chosen on validation users. The test users stay out of it until the end.
train, test, validation = strong_generalization(jaxrec.load("msweb"), n_heldout=2000)
gram = jax.numpy.asarray(gram_matrix(train))

# %% [markdown]
# Four models that differ in what they do about the diagonal, an item's weight on itself, which is no help in
# recommending anything else. EASE forbids it; RLAE limits it; LAE leaves it free. EDLAE leaves it out of the loss by
# dropping items from the histories, in expectation, and so penalises popular items more. Each is a pure function of
# the Gram matrix, which can be compiled, differentiated and mapped; `reg` is traced, so five values compile once.

# %%
models = {
    "Ease": jax.jit(ease.weights),
    "Edlae": jax.jit(lambda gram, reg: edlae.weights(gram, 0.3, reg)),  # dropout 0.3
    "Rlae": jax.jit(lambda gram, reg: edlae.weights(gram, 0.0, reg, 0.5)),  # a diagonal of at most 0.5
    "Lae": jax.jit(lambda gram, reg: edlae.weights(gram, 0.0, reg, 1.0)),
}
regs = (1.0, 10.0, 100.0, 1000.0, 10000.0)
metric = "ndcg@100"
found = {}
print(f"{metric} on validation users\nreg  ", *(f"{reg:>7g}" for reg in regs))
for name, weights in models.items():
    for reg in regs:
        model = jaxrec.ItemWeights(weights(gram, reg))
        found[name, reg] = jaxrec.evaluate(model, *validation, metric).mean[metric]
    print(f"{name:5}", *(f"{found[name, reg]:7.4f}" for reg in regs))

# %% [markdown]
# A bare kernel comes without a certificate; the model that is kept is fitted with `fit`, which has one. Its defaults
# are the settings above. (`jaxrec.tune` does all of this for one method, with standard errors and a plot.)

# %%
name, reg = max(found, key=found.get)
fitted = getattr(jaxrec, name)(reg=reg).fit(train)
print(f"{name}(reg={reg:g}): {fitted.info.certificate}")
print(jaxrec.evaluate(fitted, *test, metric))
