# %% [markdown]
# # Deep against linear
# Two well-known deep autoencoders beside two closed forms, on the same users: how well do they rank, and how long
# does it take to fit them? The deep ones are trained by gradient steps, the others solved.

# %%
import numpy as np

import jaxrec
from jaxrec.data.splits import strong_generalization

train, test, validation = strong_generalization(jaxrec.load("msweb"), n_heldout=1000)
metric = "ndcg@100"
deep = dict(hidden=(128,), learning_rate=3e-3, batch_size=200, epochs=20)
methods = {
    "popularity": jaxrec.Popularity(),
    "EASE": jaxrec.Ease(reg=30.0),
    "EDLAE": jaxrec.Edlae(reg=10.0, dropout=0.4),
    "Mult-DAE": jaxrec.MultDae(latent=64, **deep),
    "Mult-VAE": jaxrec.MultVae(latent=32, kl_weight=0.05, kl_steps=200, **deep),
}

# %% [markdown]
# The networks that are kept are those of the best epoch on the validation users; the figures are of the test users.
# The seconds hold the compilation, which on data as small as these is most of what a network takes.

# %%
reports = {}
for name, method in methods.items():
    more = {"validation": validation} if name.startswith("Mult") else {}
    fitted = method.fit(train, **more)
    reports[name] = jaxrec.evaluate(fitted, *test, metric, label=name)
    seconds = sum(fitted.info.seconds.values())
    print(f"{name:10} {metric} {reports[name].mean[metric]:.4f}, fitted in {seconds:6.2f} s")

# %% [markdown]
# The users are the same, so what counts is the difference user by user, with its standard error. The data are small
# and short histories, and none of the settings is the outcome of more than a handful of trials: the question deserves
# more than an example.

# %%
for name in ("EDLAE", "Mult-DAE", "Mult-VAE"):
    difference = reports[name].per_user[metric] - reports["EASE"].per_user[metric]
    difference = difference[~np.isnan(difference)]
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    print(f"{name:8} minus EASE: {difference.mean():+.4f} (standard error {error:.4f})")
