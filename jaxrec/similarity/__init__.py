"""What cosine similarity of embeddings does and does not mean (Steck, Ekanadham & Kallus 2024, arXiv 2403.05440)."""

from jaxrec.closed_form.spectral import (
    closed_form_factor,
    closed_form_l2,
    closed_form_product,
    eigenpairs,
    factor_objective,
    shrinkage,
)
from jaxrec.data.synthetic import simulate_clusters
from jaxrec.linear.pure_svd import objective as product_objective
from jaxrec.similarity.curvature import Curvature, gauge_curvature, principal_axes, rescaling_curvature
from jaxrec.similarity.gauges import CosineRange, canonical_gauge, cosine_range, rescale, transform
from jaxrec.similarity.lists import cosines, item_vectors, reconstruction_cosine, similar_items
from jaxrec.similarity.plots import heat_maps
from jaxrec.similarity.report import GaugeReport, gauge_report

__all__ = [
    "CosineRange",
    "Curvature",
    "GaugeReport",
    "canonical_gauge",
    "closed_form_factor",
    "closed_form_l2",
    "closed_form_product",
    "cosine_range",
    "cosines",
    "eigenpairs",
    "factor_objective",
    "gauge_curvature",
    "gauge_report",
    "heat_maps",
    "item_vectors",
    "principal_axes",
    "product_objective",
    "reconstruction_cosine",
    "rescale",
    "rescaling_curvature",
    "shrinkage",
    "similar_items",
    "simulate_clusters",
    "transform",
]
