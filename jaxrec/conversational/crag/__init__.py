"""CRAG: collaborative retrieval for language models that recommend (Zhu et al., WWW 2025, arXiv 2502.14137)."""

from jaxrec.conversational.retrieval import Retrieved, retrieve

__all__ = ["Retrieved", "retrieve"]
