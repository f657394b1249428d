"""`chat` as a user meets it: piped, in a terminal, without an endpoint, and with one that is none."""

import gzip
import io
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from conversational.endpoints import right, serving

import jaxrec
from jaxrec import InputError
from jaxrec.cli import main
from jaxrec.conversational import prompts
from jaxrec.conversational.chat.protocol import ChatRequest, Message


@pytest.fixture
def films(tmp_path):
    """Twenty people: half like Alien, Brazil and Cube, half Dune, Emma and Fargo."""
    titles = ["Alien (1979)", "Brazil (1985)", "Cube (1997)", "Dune (1984)", "Emma (1996)", "Fargo (1996)"]
    rows = [(user, item + 3 * (user % 2)) for user in range(20) for item in range(3) if (user // 2 + item) % 4]
    path = tmp_path / "films.npz"
    users, items = zip(*rows, strict=True)
    data = jaxrec.Interactions.from_triples(users, items, n_users=20, n_items=6)
    np.savez(path, user=data.user_of_entry, item=data.indices, n_users=20, n_items=6)
    with gzip.open(tmp_path / "films.items.txt.gz", "wt") as file:
        file.write("\n".join(titles) + "\n")
    return path


@pytest.fixture
def chat(films, capsys, monkeypatch):
    """Says lines to the command through a pipe: its exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("JAXREC_DEBUG", raising=False)

    def say(*lines, flags=("--reg", "1", "-k", "2")):
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        code = main(["chat", "--data", str(films), *flags])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return say


def test_it_recommends_what_goes_with_what_is_liked_and_says_why(chat):
    code, out, err = chat("I loved Alien but hated Emma", "/why")
    assert code == 0 and err == ""
    first = out.index("You may like:")
    assert "  1  Cube (1997)  because of Alien (1979)\n  2  Brazil (1985)  because of Alien (1979)" in out[first:]
    assert "named 'Emma', attitude -2, is Emma (1996) (exact)" in out
    assert "retrieved Brazil (1985), score" in out


def test_nothing_is_recommended_twice_until_nothing_is_left(chat):
    _, out, _ = chat("Alien", "more", "and more", "still more")
    answers = out.split("jaxrec> ")[2:]
    told = [line for answer in answers for line in answer.splitlines() if line.strip()[:1].isdigit()]
    titles = [line.split("  ")[2] for line in told]
    assert len(titles) == len(set(titles)) == 5 and "nothing left" in answers[-1]


def test_what_is_seen_is_left_out_and_listed(chat):
    _, out, _ = chat("/seen Brazil", "I like Alien", "/seen", "/seen nonsense qqq", "/why")
    assert "Brazil (1985)" not in out.partition("You may like:")[2].partition("you>")[0]
    assert "No title of the catalogue is in that." in out
    assert chat("/seen", "/why")[1].count("yet.") == 2


def test_it_says_what_it_does_not_understand(chat):
    _, out, _ = chat("something scary", "I hate Alien", "/what", "/save")
    assert "I found no film of my catalogue in that" in out and "I leave that out" in out
    assert "/what is no command" in out and "/save is no command, or lacks something" in out and "/seen TITLE" in out


def test_a_conversation_is_saved_as_messages(chat, tmp_path):
    path = tmp_path / "talk.jsonl"
    _, out, _ = chat("I love Alien", f"/save {path}", f"/save {tmp_path}/no/such/folder", f"/save {tmp_path}")
    assert "saved to" in out and out.count("not saved:") == 2
    told = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [each["role"] for each in told] == ["user", "assistant"]
    assert told[0] == {"role": "user", "content": "I love Alien", "items": ["Alien (1979)"]}
    assert told[1]["items"] == ["Cube (1997)", "Brazil (1985)"]


def test_a_file_of_something_else_is_not_written_over(chat, tmp_path):
    other, path = tmp_path / "other.txt", tmp_path / "talk.jsonl"
    other.write_text("kept")
    _, out, _ = chat("I love Alien", f"/save {other}", f"/save {path}", "more", f"/save {path}")
    assert f"not saved: there is a file {other} already" in out and other.read_text() == "kept"
    assert out.count("saved to") == 2 and len(path.read_text("utf-8").splitlines()) == 4


def test_control_characters_and_brackets_do_no_harm(chat):
    code, out, _ = chat("\x1b[2J\x07I loved [bold]Alien[/bold] \x00", ":smile: [/]", " ")
    assert code == 0 and not any(mark in out for mark in "\x1b\x07\x00")
    assert "[bold]Alien[/bold]" in out and "Brazil (1985)" in out and ":smile: [/]" in out


def test_input_that_ends_or_quits_ends_it(chat):
    assert chat()[0] == 0
    code, out, _ = chat("/quit", "Alien")
    assert code == 0 and "Brazil" not in out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--base-url", "http://localhost:1/v1"), "--base-url needs --model NAME"),
        (("--reg", "0"), "reg must be above 0"),
        (("-k", "0"), "k must be at least 1"),
        (("--data", "msweb.nothing"), "msweb.nothing"),
        (("--model", "m", "--base-url", "nonsense"), "base_url"),
    ],
)
def test_what_it_refuses(chat, flags, says):
    code, _, err = chat("Alien", flags=flags)
    assert code == 1 and says in err and err.count("\n") == 1


def test_an_endpoint_that_is_none_is_said_in_a_sentence(chat):
    code, _out, err = chat("I like Alien", flags=("--model", "m", "--base-url", "http://127.0.0.1:9/v1"))
    assert code == 1 and err.startswith("jaxrec: ") and err.count("\n") == 1 and "127.0.0.1:9" in err


def _plays(text, times):
    """Answers the prompts of CRAG."""
    for prompt in sorted(prompts.PROMPTS, key=lambda each: -len(each.text)):
        try:
            prompt.fields_of(ChatRequest((Message("user", text),), "", prompt.stage))
        except InputError:
            continue
        return right(ANSWERS[prompt.stage])
    return right("", status=400)


ANSWERS = {
    "extract": "Alien (1979)####2",
    "reflect": "Cube (1997)####1\nBrazil (1985)####0",
    "recommend": "1. Fargo\n2. Cube\n3. Solaris (1972)",
    "rerank": "Cube (1997)####2\nFargo (1996)####0\nSolaris (1972)####-1",
}


def test_with_an_endpoint_it_is_crag(chat):
    with serving(_plays) as server:
        flags = ("--reg", "1", "-k", "3", "--model", "tiny", "--base-url", server.url)
        code, out, err = chat("the one with the alien was great", "/why", flags=flags)
    assert code == 0 and err == "" and len(server.asked) == 4
    titles = [line.split("  ")[2] for line in out.splitlines() if line.strip()[:2] in ("1 ", "2 ", "3 ")]
    assert titles == ["Cube (1997)", "Fargo (1996)", "Solaris (1972)"]
    assert "Cube (1997) as number 1, before that number 2, scored +2" in out


def test_an_endpoint_that_breaks_off_is_stood_in_for(chat):
    def breaks(text, times):
        return _plays(text, times) if "####1" in text else right("", status=400)  # what extraction is shown

    with serving(breaks) as server:
        flags = ("--reg", "1", "-k", "2", "--model", "tiny", "--base-url", server.url)
        code, out, err = chat("I loved Alien", "/why", flags=flags)
    assert code == 0 and err == "" and "note: " in out and "/why says more." in out
    assert "  1  Cube (1997)  because of Alien (1979)" in out and out.count("  error: ") == 2


def test_without_the_extra_it_says_how_to_get_it(films):
    code = f"""
import sys
sys.modules["rapidfuzz"] = None
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "rapidfuzz" else find(name, *more)
from jaxrec.cli import main
assert main(["info"]) == 0
sys.exit(main(["chat", "--data", {str(films)!r}]))
"""
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
    assert ran.returncode == 1 and "pip install 'jaxrec[conversational]'" in ran.stderr and ran.stderr.count("\n") == 1


# Makes the terminal that of the process, so that Ctrl-C reaches it, and becomes the command.
TAKES_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("leave", "code"), [(b"\x04", 0), (b"\x03", 130), (b"/quit\n", 0)])
def test_in_a_terminal(films, leave, code):
    import pty

    here, there = pty.openpty()
    command = ["-m", "jaxrec", "chat", "--data", str(films), "--reg", "1"]
    environment = {**os.environ, "COLUMNS": "100", "TERM": "dumb"}
    process = subprocess.Popen(
        [sys.executable, "-c", TAKES_TERMINAL, *command],
        stdin=there,
        stdout=there,
        stderr=there,
        env=environment,
        start_new_session=True,
    )
    os.close(there)
    said = _until(here, b"you> ")
    os.write(here, b"I loved Alien\n")
    said += _until(here, b"you> ")
    os.write(here, leave)
    said += _until(here, None)
    assert process.wait(timeout=60) == code
    assert b"because of Alien (1979)" in said and b"Traceback" not in said
    assert (b"interrupted" in said) == (code == 130)
    os.close(here)


def _until(terminal, wanted, seconds=300):
    """What the terminal shows until it shows `wanted`, or until it is closed."""
    said, end = b"", time.monotonic() + seconds
    while time.monotonic() < end and (wanted is None or wanted not in said):
        try:
            part = os.read(terminal, 4096)
        except OSError:  # the other side has gone
            break
        if not part:
            break
        said += part
    return said
