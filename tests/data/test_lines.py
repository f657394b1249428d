"""Line ends of every system, and of several in one file."""

import pytest

from jaxrec.data.lines import one_line_end


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"a\nb\n", b"a\nb\n"),
        (b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"a\rb\r", b"a\nb\n"),
        (b"a\rb\r\nc\nd", b"a\nb\nc\nd"),
        (b"a\r\r\nb", b"a\n\nb"),
        (b"", b""),
        (b"\r", b"\n"),
    ],
)
@pytest.mark.parametrize("quote", [None, b'"'])
def test_one_line_end(before, after, quote):
    assert one_line_end(before, quote) == after


def test_what_is_quoted_stays():
    assert one_line_end(b'"a\rb\r\n",c\r"d""\r"\r\n', b'"') == b'"a\rb\r\n",c\n"d""\r"\n'
    assert one_line_end(b'"a\rb"\r', None) == b'"a\nb"\n'
