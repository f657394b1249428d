# %% [markdown]
# # Sharding on a TPU
# The closed forms keep one dense matrix of all pairs of items, and a mesh of devices splits it by columns. The code
# is the same on the eight cores of a TPU v5e-8 or v2-8, on the GPUs of a host, and where there is neither: there
# eight CPU devices are simulated. They share the same cores, so nothing gets faster, but the program is the very one.

# %%
import jax

jax.config.update("jax_num_cpu_devices", 8)  # before JAX starts; where there are GPUs or TPUs, those are taken

import numpy as np

import jaxrec

devices = jax.devices()
print(f"{len(devices)} x {devices[0].device_kind}")

# %% [markdown]
# `devices=` is all there is to it: Gram matrix, inverse and weights come into being on the devices that keep them, and
# no device ever holds the whole of one. The certificate says whether the result is the optimum, here as anywhere.

# %%
train, test, _ = jaxrec.split(jaxrec.load("msweb"))
fitted = jaxrec.Ease(reg=100.0).fit(train, devices=devices)
print(fitted.info.certificate)
parts = fitted.model.weights.addressable_shards
print(f"{train.n_items} items, padded to {fitted.model.weights.shape[1]}: {len(parts)} parts of {parts[0].data.shape}")

# %% [markdown]
# Rankings are made where the weights are: each device scores its own items, and only its best candidates travel.

# %%
metric = "ndcg@100"
report = jaxrec.evaluate(fitted, *test, metric, label="split")
print(report)

# %% [markdown]
# One device comes to the same weights, up to rounding, which another order of summation changes.

# %%
alone = jaxrec.Ease(reg=100.0).fit(train)
split, whole = (np.asarray(each.model.to_host().weights) for each in (fitted, alone))
print(
    f"largest difference of a weight from one device's: {np.abs(split - whole).max():.1e} of {np.abs(whole).max():.2f}"
)
apart = report.mean[metric] - jaxrec.evaluate(alone, *test, metric).mean[metric]
print(f"difference in {metric}: {apart:+.1e}")

# %% [markdown]
# What would a larger catalogue take? `plan` does the arithmetic for devices that are here or not, without allocating
# anything: 100,000 items do not fit on one core of 16 GB, and do on eight.

# %%
for where in ("v5e", "8xv5e", "8xv2"):
    plan = jaxrec.plan(1_000_000, 100_000, 100_000_000, "ease", devices=where)
    print(f"{where:6} {plan.total / 1e9:5.1f} GB on each: {'fits' if plan.fits else 'does not fit'}")
