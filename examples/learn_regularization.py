# %% [markdown]
# # Learning the regularization of every item by gradient
# The squared error of leave-one-user-out (every user predicted by the EASE model trained on all the others) has a
# closed form, and its gradient with respect to the penalty of each item costs about as much as the error itself.
# So the penalty can be learned: here reg_j = exp(a + b log n_j), where n_j is the number of users of item j. With
# b = 0 that is the usual scalar. Does the second number help on users never seen?

# %%
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

import jaxrec
from jaxrec.closed_form import kernel
from jaxrec.closed_form.gram import gram_matrix
from jaxrec.evaluation.leave_user_out import squared_error

train, test, _ = jaxrec.split(jaxrec.load("msweb"))
train = train.rows(np.arange(5000))  # of 32,711 users, to keep the example short
x = jnp.asarray(train.to_csr().toarray())
gram = jnp.asarray(gram_matrix(train))
log_counts = np.log(np.maximum(train.item_counts, 1)).astype(np.float32)
log_counts -= log_counts.mean()  # so that a is the mean log penalty, whatever b is


# %%
@jax.jit
@jax.value_and_grad
def error_and_gradient(parameters):
    """The mean leave-one-user-out squared error of an entry, and its gradient."""
    return squared_error(x, jnp.exp(parameters[0] + parameters[1] * log_counts), gram=gram) / x.size


def learn(start, free):
    """The parameters with the smallest error, of which only those marked free move; by L-BFGS."""

    def scaled(free_parameters):
        parameters = np.array(start, np.float32)
        parameters[free] = free_parameters
        error, gradient = error_and_gradient(parameters)
        return 1e4 * float(error), 1e4 * np.asarray(gradient, np.float64)[free]

    found = scipy.optimize.minimize(scaled, np.array(start)[free], jac=True, method="L-BFGS-B")
    parameters = np.array(start)
    parameters[free] = found.x
    return parameters, found.fun / 1e4, found.nfev


start = [np.log(30.0), 0.0]
scalar, scalar_error, scalar_calls = learn(start, np.array([True, False]))
learned, learned_error, learned_calls = learn(list(scalar), np.array([True, True]))
print(f"best scalar:  reg {np.exp(scalar[0]):.1f}, error {scalar_error:.7f} ({scalar_calls} gradients)")
penalty = np.exp(learned[0] + learned[1] * log_counts)
print(
    f"per item:     reg {penalty.min():.1f} to {penalty.max():.1f}, as n_j to the power {learned[1]:.2f}, "
    f"error {learned_error:.7f} ({learned_calls} gradients)"
)

# %% [markdown]
# The error that was minimised is one of reconstruction, and the test is one of ranking, on other users: there is no
# guarantee that the second follows the first.

# %%
metric = "ndcg@100"
reports = {}
for name, diagonal in {"scalar": np.full(train.n_items, np.exp(scalar[0])), "per item": penalty}.items():
    weights = kernel.solve(gram, diagonal.astype(np.float32)).weights
    reports[name] = jaxrec.evaluate(jaxrec.ItemWeights(weights), *test, metric, label=name)
    print(f"{name:9} {metric} {reports[name].mean[metric]:.5f} on held-out users")

# %%
# The same users under both, so the difference has a much smaller standard error than either mean.
difference = reports["per item"].per_user[metric] - reports["scalar"].per_user[metric]
difference = difference[~np.isnan(difference)]
error = difference.std(ddof=1) / np.sqrt(len(difference))
gain = difference.mean()
verdict = "beats" if gain > 2 * error else "loses to" if gain < -2 * error else "cannot be told apart from"
print(f"per item minus scalar: {gain:+.5f} (standard error {error:.5f}): the learned penalty {verdict} the best scalar")
