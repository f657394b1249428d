"""The models without any one user: their scores from the inverse of all, and what in them is exactly 0 or equal."""

from jaxrec.closed_form.without_user.inverse import LeaveUserOut, apart, scores

__all__ = ["LeaveUserOut", "apart", "scores"]
