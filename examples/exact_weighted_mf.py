# %% [markdown]
# # Exact weighted matrix factorization
# A missing cell is weaker evidence than an observed one, so weighted factorization sums W (X - prediction)^2 over
# *all* cells, with small weights on the missing ones. No solver here visits those one by one, and none has a learning
# rate: the equations are solved. Is that right? Gradient descent on the same loss is the referee.

# %%
import jax
import numpy as np
import optax

import jaxrec
from jaxrec.data.splits import strong_generalization
from jaxrec.factorization import fold_in
from jaxrec.factorization.ials import method as ials
from jaxrec.factorization.weighted_ease import method as weighted_ease
from jaxrec.solvers.descent import descend

train, test, _ = strong_generalization(jaxrec.load("msweb"), n_heldout=1000)
small = train.rows(np.flatnonzero(train.user_counts >= 5)[:200])  # the literal losses are dense
x = small.to_csr().toarray()

# %% [markdown]
# **Full rank.** Weighted EASE is convex: where the gradient vanishes is the optimum. Rare pages get larger weights here
# (inverse propensity), so that each column is a system of its own.

# %%
weights = jaxrec.Weights.ips(small, beta=0.5, alpha=5.0)
fitted = jaxrec.WeightedEase(reg=20.0).fit(small, cell_weights=weights)
print(f"weighted EASE: {fitted.info.certificate}")


@jax.grad
def slope(b):
    return weighted_ease.objective(x, weights.to_dense(small), b, 20.0)


off_diagonal = 1 - np.eye(small.n_items)  # the diagonal is 0 and not free
at_optimum, at_zero = (
    np.linalg.norm(slope(b) * off_diagonal) for b in (fitted.model.weights, np.zeros_like(off_diagonal))
)
print(f"gradient by automatic differentiation: {at_optimum / at_zero:.1e} of that at zero")

# %% [markdown]
# **Low rank.** The factorization P V' is not convex, but given V it is a regression for each user, and the other way
# round. `mode="cholesky"` solves each exactly, so no sweep can raise the loss. Adam comes to about the same in the
# end; from another start either may end in another valley.

# %%
method = jaxrec.Ials(rank=8, mode="cholesky", sweeps=20)
detail = method.fit(small).info.certificate.detail
problem, _ = method.problem(small)


def loss(factors):
    base = np.full(x.shape, method.unobserved_weight)
    return ials.objective(x, base, x * method.alpha, *factors, problem.users.ridge, problem.items.ridge)


rng = np.random.default_rng(0)
start = tuple(rng.normal(0.0, 0.1 / np.sqrt(8), (n, 8)).astype(np.float32) for n in x.shape)
adam = descend(loss, start, 500, optax.adam(1e-2))
for sweeps, steps in ((1, 10), (5, 100), (20, 500)):
    exact, by_gradients = detail[f"loss after sweep {sweeps}"], adam.losses[list(adam.steps).index(steps)]
    print(f"{sweeps:3} exact sweeps: {exact:8.3f}   {steps:4} steps of Adam: {by_gradients:8.3f}")

# %% [markdown]
# **Users who were not there.** Given the item factors, a new history is one more regression, with the same weights:
# `fold_in` solves it; recommending and evaluating do so by themselves.

# %%
fitted = jaxrec.Ials(rank=32, reg=0.03, mode="cholesky").fit(train)
history = jaxrec.Interactions.from_lists([[train.items.find("SQL Server")]], train.items)
factors = fold_in(fitted.model, history)
titles = jaxrec.recommend(fitted, history, k=3).titles()[0]
print(f"{factors.shape[1]} factors of somebody who saw SQL Server, to whom is recommended: {', '.join(titles)}")
for name, model in {
    "EASE": jaxrec.Ease(reg=100.0).fit(train),
    "weighted EASE": jaxrec.WeightedEase(reg=100.0).fit(train),
    "iALS": fitted,
}.items():
    report = jaxrec.evaluate(model, *test, "ndcg@100")
    print(f"{name:14} ndcg@100 {report.mean['ndcg@100']:.4f} +- {report.standard_error['ndcg@100']:.4f}")
