"""How far a trained autoencoder is from the linear optimum of its width, where that bounds it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrec._checks import InputError
from jaxrec.closed_form import bounds
from jaxrec.closed_form.bounds import Bound
from jaxrec.data import Interactions, row_batches
from jaxrec.models import Fitted

BATCH_SIZE = 512


class Excess(NamedTuple):
    """The training loss beside the linear optimum.

    Attributes:
      loss: of the trained network on the data, without noise, in float64; with the penalty where the bound has it.
      bound: the optimum of the linear autoencoders of its width.
      ratio: loss / bound; below 1 (but for rounding, some 1e-6) no autoencoder can come.
    """

    loss: float
    bound: Bound
    ratio: float

    def __str__(self) -> str:
        return f"loss {self.loss:.6g}, {self.ratio - 1:.3%} over the linear optimum {self.bound.value:.6g}"


def linear_optimum(method: Any, train: Interactions) -> Bound:
    """The linear optimum that bounds an autoencoder's training loss on these data; see `jaxrec.closed_form.bounds`.

    The width is that of the last hidden layer. With noise the bound holds and is not reached. A penalty on the weights
    is part of it only for linear networks of one hidden layer or none; for others it bounds the loss without penalty.

    Raises:
      InputError: the loss is none that the bound is about.
    """
    what = _bounded(method, train)
    return bounds.linear_optimum(_trained_on(train), **what)._replace(tight=_is_tight(method, what["width"]))


def _trained_on(train: Interactions) -> Interactions:
    """What a training sees: the users with interactions."""
    return train.rows(np.flatnonzero(train.user_counts))


def _is_tight(method: Any, width: int) -> bool:
    """Whether linear networks of this shape reach the bound, from the input as it is, without noise."""
    noise = method.dropout > 0 or method.hidden_dropout > 0
    narrow = any(each < width for each in (*method.encoder, *method.decoder))
    # An encoder that is the decoder's mirror does not have the best code at the best price.
    mirrored = method.tied and method.reg > 0 and method.penalty == "bottleneck"
    return not (noise or narrow or method.normalize or mirrored or _shared_reg(method) != method.reg)


def _bounded(method: Any, train: Interactions) -> dict[str, Any]:
    """What bounds the training of a method, as arguments of `bounds.linear_optimum`; refuses what nothing bounds."""
    if not hasattr(method, "full_emphasis"):
        raise InputError(f"the linear optimum bounds an Autoencoder with loss='squared', got {type(method).__name__}.")
    if method.loss != "squared":
        why = "weights cells" if method.loss == "gaussian" else "is no squared error of a linear output"
        raise InputError(f"the linear optimum bounds squared errors: loss={method.loss!r} {why}; use loss='squared'.")
    if method.full_emphasis:
        raise InputError(
            "the linear optimum bounds errors on all cells alike, and full_emphasis weights them by what was dropped; "
            "compare with jaxrec.Edlae, or train without it."
        )
    shared = {"reg": _shared_reg(method), "penalty": _penalty(method), "bias": method.bias}
    return {"width": _width(method, train), **shared}


def excess(fitted: Fitted, train: Interactions, bound: Bound | None = None) -> Excess:
    """The training loss of a fitted `Autoencoder` beside the linear optimum that bounds it.

    Args:
      fitted: what `Autoencoder.fit` returned.
      train: what it was fitted on.
      bound: what `linear_optimum` returned for another training of this width, bias and penalty on the same data;
        None computes it.

    Raises:
      InputError: the bound does not hold for this autoencoder, or it was fitted on other data.

    Cost: scoring all users, and without `bound` the spectrum of X (`bounds.spectrum`).
    """
    if fitted.info.data.get("fingerprint") != train.fingerprint:
        raise InputError(f"the bound is of the training data, and the model was not fitted on {train.name}.")
    method, model = fitted.info.method, fitted.model
    wanted = bounds.described(**_bounded(method, train))
    if bound is None:
        bound = linear_optimum(method, train)
    elif bound.of != wanted:
        raise InputError(f"bound must be that of the {wanted}, got that of the {bound.of}.")
    elif not np.isclose(bound.nothing, bounds.spread(_trained_on(train), method.bias), rtol=1e-9):
        raise InputError(f"bound is that of other data, where predicting nothing has the loss {bound.nothing:.6g}.")
    forward = jax.jit(_outputs_and_codes)
    loss, codes = 0.0, 0.0
    for batch in row_batches(_trained_on(train), BATCH_SIZE):
        outputs, code = (np.asarray(part, np.float64) for part in forward(model, batch))
        real = np.asarray(batch.rows) >= 0
        loss += float(np.sum((np.asarray(batch.dense(train.n_items)) - outputs)[real] ** 2))
        codes += float(np.sum(code[real] ** 2))
    kernels = {name: np.asarray(leaf, np.float64) for name, leaf in model.parameters.items() if ".kernel" in name}
    if (reg := _shared_reg(method)) > 0:
        of = [kernel for name, kernel in kernels.items() if method.penalty == "weights" or name.startswith("decoder.")]
        loss += reg * (sum(float(np.sum(kernel**2)) for kernel in of) + codes * (method.penalty == "bottleneck"))
    return Excess(loss, bound, loss / bound.value if bound.value > 0 else np.inf)


def _width(method: Any, train: Interactions) -> int:
    """Outputs of the last hidden layer; without one, of the only layer."""
    widths = (*method.encoder, *method.decoder, train.n_items)
    return min(widths[-2] if method.encoder else widths[-1], train.n_items)


def _penalty(method: Any) -> str:
    if method.penalty == "bottleneck" or not method.reg:
        return "bottleneck"
    return "product" if not method.encoder else "tied" if method.tied else "weights"


def _shared_reg(method: Any) -> float:
    """The strength of the penalty, where the bound takes account of it."""
    linear = method.activation == "linear" and len(method.encoder) <= 1 and not method.decoder and not method.normalize
    return method.reg if linear or method.penalty == "bottleneck" else 0.0


def _outputs_and_codes(model: Any, batch: Any) -> tuple[Any, Any]:
    from jaxrec.deep.network import modules

    network, entering = modules.merged(model.architecture, model.parameters), batch.packed()
    if model.architecture.normalize:
        entering = modules.normalized(entering)
    code, _ = network.encode(entering, modules.keep)
    return network.decode(code, modules.keep), code
