"""SLIM: the method, and the certificate of an elastic net by its gradient and a Newton step."""

from jaxrec.linear.slim.method import NonnegativeEase, Slim

__all__ = ["NonnegativeEase", "Slim"]
