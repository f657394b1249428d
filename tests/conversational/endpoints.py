"""A chat endpoint of the tests' own, in a thread: it answers as it is told to, and counts what it is asked."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from jaxrec.conversational.chat.protocol import ChatRequest, Message

MODEL = "tiny"


@dataclasses.dataclass
class Answer:
    """What the endpoint does with one request."""

    body: bytes = b""
    status: int = 200
    headers: dict = dataclasses.field(default_factory=dict)
    after: float = 0.0  # seconds
    cut: int = 0  # bytes fewer than announced
    drip: float = 0.0  # seconds before each byte


def right(text, **more):
    """The answer that says `text`."""
    choices = [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    return Answer(json.dumps({"model": MODEL, "choices": choices, "usage": usage}).encode(), **more)


class Server:
    """What was asked: the last message, headers, body and time of each request, and the most at a time."""

    def __init__(self, answer: Callable[[str, int], Answer], models=(MODEL,)):
        self.answer, self.models = answer, models
        self.asked, self.headers, self.bodies, self.when, self.now, self.most = [], [], [], [], 0, 0
        self.lock, self.over = threading.Lock(), threading.Event()

    def times(self, prompt):
        return self.asked.count(prompt)


@contextlib.contextmanager
def serving(answer=lambda prompt, times: right(f"re: {prompt}"), **options):
    """A server on a free port; `answer` gets the prompt and how often it came before."""
    state = Server(answer, **options)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            listed = {"data": [{"id": name} for name in state.models or ()]}
            found = self.path == "/v1/models" and state.models is not None
            self._send(Answer(json.dumps(listed).encode()) if found else Answer(b"{}", 404))

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if state.over.is_set():  # the endpoint has gone
                self.close_connection = True
                return
            prompt = body["messages"][-1]["content"]
            with state.lock:
                times = state.times(prompt)
                state.asked.append(prompt)
                state.bodies.append(body)
                state.when.append(time.monotonic())
                state.headers.append(dict(self.headers))
                state.now += 1
                state.most = max(state.most, state.now)
            answer = state.answer(prompt, times)
            state.over.wait(answer.after)
            with state.lock:
                state.now -= 1
            self._send(answer)

        def _send(self, answer):
            with contextlib.suppress(OSError):  # the other side has gone
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.body) + answer.cut), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                pieces = [answer.body] if not answer.drip else [bytes([each]) for each in answer.body]
                for piece in pieces:
                    state.over.wait(answer.drip)
                    self.wfile.write(piece)
                    self.wfile.flush()
                self.close_connection = bool(answer.cut)

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_):
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.stop = lambda: (state.over.set(), server.shutdown(), server.server_close())
    try:
        yield state
    finally:
        state.stop()
        thread.join()


def waiting_for(n):
    """What answers no request but "question 0" until n have come, and then these n together."""
    here = threading.Barrier(n)

    def answer(prompt, _):
        if prompt != "question 0":
            here.wait(timeout=60)
        return right(f"re: {prompt}")

    return answer


def questions(n, start=0):
    """n requests, "question 0" and so on, keyed "0" and so on."""
    return [ChatRequest((Message("user", f"question {i}"),), str(i)) for i in range(start, start + n)]


def until(condition, seconds=60.0):
    """Waits until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def started(script, *arguments):
    """A process of its own that runs a script, which may import from here."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
