"""An OpenAI-compatible chat endpoint with a script: what paid models do wrong cannot be had on demand otherwise.

It writes true questions about depots that it finds in a prompt, the same ones for the same prompt, in whichever
disorderly form it is told to. It counts what it answers, as a bill would.
"""

import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_DEPOT = re.compile(r"Depot (\d+)")
_WANTED = re.compile(r"Write (\d+)")
_MARKED = re.compile(r"<document-(\w+)>\n(.*?)\n</document-\1>", re.DOTALL)
_ASKED_OF_EACH = (
    "How many crates are stored in depot {}?",
    "Who is in charge of depot {}?",
    "In which town would one find depot {}?",
)
NUMBERINGS = ("{}. {}", "{}) {}", "({}) {}", "Question {}: {}", "**{}.** {}")
REFUSAL = "I'm sorry, but I can't help with that."


def paragraph(number: int) -> str:
    towns, names = ("Brno", "Tábor", "Cheb", "Opava", "Písek"), ("Jana", "Petr", "Eva", "Ivan", "Zuzana")
    return (
        f"Depot {number} stands near the railway in {towns[number % 5]} and keeps {100 + 7 * number} crates of apples. "
        f"{names[number % 3]} Nováková runs it with {2 + number % 4} helpers."
    )


class ChatEndpoint(ThreadingHTTPServer):
    """Answers well until `faults`, one a call, or `fault` say otherwise, and fails whatever a prompt's words name."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        super().__init__(address, _Handler)
        self.fault = ""
        self.faults: list[str] = []
        self.by_words: dict[str, str] = {}
        self.seconds = 0.0
        self.requests: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.answered: Counter[str] = Counter()
        self.in_flight = 0
        self.most_in_flight = 0
        self.lock = threading.Lock()

    def handle_error(self, *arguments: object) -> None:
        """A caller that has left is no news."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def asked(self) -> list[str]:
        """Prompts, in the order in which they came."""
        return [_prompt(request) for request in self.requests]

    @property
    def calls(self) -> int:
        return len(self.requests)


@contextmanager
def running() -> Iterator[ChatEndpoint]:
    server = ChatEndpoint()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: ChatEndpoint
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server, prompt = self.server, _prompt(request)
        with server.lock:
            server.requests.append(request)
            server.headers = {name.lower(): value for name, value in self.headers.items()}
            fault = server.faults.pop(0) if server.faults else server.fault
            fault = next((named for words, named in server.by_words.items() if words in prompt), fault)
            server.in_flight += 1
            server.most_in_flight = max(server.in_flight, server.most_in_flight)
        try:
            time.sleep(server.seconds)
            self._answer(request, prompt, fault)
        finally:
            with server.lock:
                server.in_flight -= 1

    def _answer(self, request: dict[str, Any], prompt: str, fault: str) -> None:
        if fault == "hang":
            time.sleep(3)
        if fault == "reset":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault.startswith("http"):
            self._send(int(fault[4:7]), {"error": {"message": "secret of the endpoint"}}, retry_after=fault[8:])
        elif fault == "html":
            self._send(200, b"<html>login</html>")
        else:
            with self.server.lock:
                self.server.answered[prompt] += 1
            self._send(200, _completion(request, written(prompt, fault), self.path) | _oddities(fault))

    def _send(self, status: int, body: Any, retry_after: str = "") -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(content)


def _oddities(fault: str) -> dict[str, Any]:
    """What replaces parts of a good answer."""
    refused = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "refusal": REFUSAL}}
    return {
        "no choices": {"choices": []},
        "refusal field": {"choices": [refused]},
        "null usage": {"usage": {"prompt_tokens": None, "completion_tokens": None}},
        "no usage": {"usage": None},
    }.get(fault, {})


def written(prompt: str, form: str) -> str:
    """What the model writes: good questions in some form, or something else."""
    if "Answer with one word, yes or no" in prompt:
        return form or "Yes."
    questions = good_questions(prompt)
    numbered = {f"numbering {place}": _lines(questions, how) for place, how in enumerate(NUMBERINGS)}
    plain = _lines(questions, NUMBERINGS[0])
    forms = numbered | {
        "json": json.dumps({"questions": [{"question": text, "quote": _quote(prompt)} for text in questions]}),
        "bullets": _lines(questions, "- {1}"),
        "preamble": f"Here are {len(questions)} questions about the document:\n\n{plain}\n\nI hope these help!",
        "fence": f"```\n{plain}\n```",
        "half a character": f"{plain}\ud83d",
        "fewer": plain.splitlines()[0],
        "more": "\n".join([plain, "8. What are the rules of depot 0?", "9. When was depot 0 founded?"]),
        "empty": "",
        "spaces": " \n\n ",
        "refusal": REFUSAL,
        "wrong language": "1. Wie viele Kisten mit Äpfeln lagern in dem großen Lagerhaus am Bahnhof?\n"
        "2. Welche Mitarbeiterin leitet heute das Lager und wie heißt sie mit Nachnamen?",
        "invalid json": '{"questions": [{"question": "How many crates',
        "prose": "The document talks about depots. It is very interesting.",
        "leak": "1. According to the document, who runs the place?\n2. What does the passage say about apples?",
    }
    return forms.get(form, plain)


def good_questions(prompt: str) -> list[str]:
    about = " ".join(text for _, text in _MARKED.findall(prompt)) or prompt.rsplit("Passage:", 1)[-1]
    wanted = int(found[1]) if (found := _WANTED.search(prompt)) else 2
    depots = list(dict.fromkeys(_DEPOT.findall(about)))
    asked = [asked.format(depot) for asked in _ASKED_OF_EACH for depot in depots]
    return asked[:wanted]


def _quote(prompt: str) -> str:
    return next((text.partition(". ")[0] for _, text in _MARKED.findall(prompt)), "")


def _lines(questions: Sequence[str], how: str) -> str:
    return "\n".join(how.format(number, text) for number, text in enumerate(questions, 1))


def _prompt(request: dict[str, Any]) -> str:
    return request.get("prompt") or "\n".join(message["content"] for message in request["messages"])


def _completion(request: dict[str, Any], text: str, path: str) -> dict[str, Any]:
    message = (
        {"message": {"role": "assistant", "content": text}} if path.endswith("/chat/completions") else {"text": text}
    )
    usage = {"prompt_tokens": len(_prompt(request)) // 4, "completion_tokens": len(text) // 4}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [{"index": 0, "finish_reason": "stop", **message}],
        "usage": usage | {"total_tokens": sum(usage.values())},
    }
