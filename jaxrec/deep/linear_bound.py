"""How far a trained autoencoder is from the linear optimum of its width, if there is one that bounds it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrec._checks import InputError
from jaxrec.closed_form import bounds
from jaxrec.closed_form.bounds import Bound
from jaxrec.data.batching import RowBatch, row_batches
from jaxrec.data.interactions import Interactions
from jaxrec.deep.autoencoder import Autoencoder
from jaxrec.deep.network.model import Network
from jaxrec.models import Fitted

BATCH_SIZE = 512


class Excess(NamedTuple):
    """The training loss beside the linear optimum.

    Attributes:
      loss: of the trained network on the data, without noise, in float64; with the penalty if the bound has one.
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

    Its width is the width of the last hidden layer. With noise the bound holds and is not reached. It has a penalty on
    the weights only for linear networks of one hidden layer or none; for others it bounds the loss without penalty.

    Args:
      method: an `Autoencoder` with loss "squared", without full emphasis.
      train: U x I interactions.

    Raises:
      InputError: the loss is none that the bound is about.

    Cost: the spectrum of X (`jaxrec.closed_form.bounds.spectrum`).
    """
    arguments = _bound_arguments(method, train)
    bound = bounds.linear_optimum(_trained_on(train), **arguments)
    return bound._replace(tight=_is_tight(method, arguments["width"]))


def excess(fitted: Fitted, train: Interactions, bound: Bound | None = None) -> Excess:
    """The training loss of a fitted `Autoencoder` beside the linear optimum that bounds it.

    Args:
      fitted: what `Autoencoder.fit` returned.
      train: what it was fitted on.
      bound: what `linear_optimum` returned for another training of this width, bias and penalty on the same data;
        None computes it.

    Raises:
      InputError: the bound does not hold for this autoencoder, or it was fitted on other data.

    Cost: scoring all users, and without `bound` the cost of `linear_optimum`.
    """
    if fitted.info.data.get("fingerprint") != train.fingerprint:
        raise InputError(f"the bound is of the training data, and the model was not fitted on {train.name}.")
    method, model = fitted.info.method, fitted.model
    wanted = bounds.described(**_bound_arguments(method, train))
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


def _trained_on(train: Interactions) -> Interactions:
    """The interactions of the users who have any: what a training sees."""
    return train.rows(np.flatnonzero(train.user_counts))


def _bound_arguments(method: Any, train: Interactions) -> dict[str, Any]:
    """The arguments of `bounds.linear_optimum` for the training of a method; refuses what nothing bounds."""
    if not isinstance(method, Autoencoder):
        raise InputError(f"the linear optimum bounds an Autoencoder with loss='squared', got {type(method).__name__}.")
    if method.loss != "squared":
        why = "weights cells" if method.loss == "gaussian" else "is no squared error of a linear output"
        raise InputError(f"the linear optimum bounds squared errors: loss={method.loss!r} {why}; use loss='squared'.")
    if method.full_emphasis:
        raise InputError(
            "the linear optimum bounds errors on all cells alike, and full_emphasis weights them by what was dropped; "
            "compare with jaxrec.Edlae, or train without it."
        )
    # Outputs of the last hidden layer; without one, of the only layer.
    width = min((*method.encoder, *method.decoder)[-1] if method.encoder else train.n_items, train.n_items)
    return {"width": width, "reg": _shared_reg(method), "penalty": _shared_penalty(method), "bias": method.bias}


def _is_tight(method: Autoencoder, width: int) -> bool:
    """Whether linear networks of this shape reach the bound, from the input as it is, without noise."""
    noise = method.dropout > 0 or method.hidden_dropout > 0
    narrow = any(each < width for each in (*method.encoder, *method.decoder))
    # An encoder that is the decoder's mirror does not have the best code at the best price.
    mirrored = method.tied and method.reg > 0 and method.penalty == "bottleneck"
    return not (noise or narrow or method.normalize or mirrored or _shared_reg(method) != method.reg)


def _shared_penalty(method: Autoencoder) -> str:
    """What `bounds.linear_optimum` calls the penalty of a method."""
    if method.penalty == "bottleneck" or not method.reg:
        return "bottleneck"
    return "product" if not method.encoder else "tied" if method.tied else "weights"


def _shared_reg(method: Autoencoder) -> float:
    """The strength of the penalty; 0 if the bound takes no account of it."""
    linear = method.activation == "linear" and len(method.encoder) <= 1 and not method.decoder and not method.normalize
    return method.reg if linear or method.penalty == "bottleneck" else 0.0


def _outputs_and_codes(model: Network, batch: RowBatch) -> tuple[Any, Any]:
    """[B, I] the outputs of a network without noise, and [B, K] its code."""
    from jaxrec.deep.network import modules

    network, entering = modules.merged(model.architecture, model.parameters), batch.packed()
    if model.architecture.normalize:
        entering = modules.normalized(entering)
    code, _ = network.encode(entering, modules.keep)
    return network.decode(code, modules.keep), code
