"""Load-tests a server of TensorFlow Serving's REST interface: many clients against one.

Each client sends one text a request, over a connection that it keeps, and waits for the answer
before it sends the next. Every answer is compared with what the server said about the same text
when it was asked alone; texts differ between clients, so that an answer to another's request would
be noticed.

    python tools/load.py URL --texts FILE [--clients 64] [--seconds 60] [--alone-seconds 10]
    [--json]

URL is the model's, such as http://127.0.0.1:8501/v1/models/films; FILE has a text a line.
KFT_SERVE_TOKEN is sent where it is set. The exit status is 1 where a request failed or an answer
differs.
"""

import argparse
import http.client
import json
import os
import statistics
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

TOLERANCE = 1e-4
TEXTS = 256
PAUSE_SECONDS = 0.2  # after a failure


@dataclass
class Tally:
    """What one client saw."""

    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    errors: list[str] = field(default_factory=list)


def main() -> None:
    arguments = read_arguments()
    lines = dict.fromkeys(Path(arguments.texts).read_text("utf-8").splitlines())
    texts = [line for line in lines if line.strip()][:TEXTS]
    alone, answers = ask_alone(arguments.url, texts, arguments.alone_seconds)
    many, passed = ask_together(arguments.url, answers, arguments.clients, arguments.seconds)
    result = {
        "clients": arguments.clients,
        "alone": summary(alone, sum(alone.seconds)),
        "together": summary(many, passed),
    }
    result["ratio"] = round(
        result["together"]["requests_per_second"] / result["alone"]["requests_per_second"], 2
    )
    if arguments.json:
        print(json.dumps(result))
    else:
        print_table(result)
    sys.exit(bool(alone.errors or many.errors or many.wrong))


def ask_alone(url: str, texts: list[str], seconds: float) -> tuple[Tally, dict[str, object]]:
    """One request at a time: its tally, and the answer to each text."""
    ask, tally, answers = client(url), Tally(), {}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(answers) < len(texts):
        for text in texts:
            started = time.perf_counter()
            answers[text] = ask(text)
            tally.seconds.append(time.perf_counter() - started)
    return tally, answers


def ask_together(url: str, answers: dict[str, object], clients: int, seconds: float) -> tuple[Tally, float]:
    """Many clients at once: their tallies together, and the seconds that passed."""
    tallies = [Tally() for _ in range(clients)]
    started = time.perf_counter()
    threads = [
        threading.Thread(target=keep_asking, args=(url, answers, i, started + seconds, tally))
        for i, tally in enumerate(tallies)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passed = time.perf_counter() - started
    whole = Tally()
    for tally in tallies:
        whole.seconds += tally.seconds
        whole.wrong += tally.wrong
        whole.errors += tally.errors
    return whole, passed


def keep_asking(url: str, answers: dict[str, object], number: int, end: float, tally: Tally) -> None:
    texts = list(answers)
    ask, position = client(url), number * 7
    while time.perf_counter() < end:
        text = texts[position % len(texts)]
        position += 1
        started = time.perf_counter()
        try:
            answer = ask(text)
        except (OSError, ValueError, http.client.HTTPException) as error:
            tally.errors.append(f"{type(error).__name__}: {error}")
            ask = client(url)
            time.sleep(PAUSE_SECONDS)
            continue
        tally.seconds.append(time.perf_counter() - started)
        tally.wrong += not alike(answer, answers[text])


def client(url: str):
    """A function: text → prediction, over one connection."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=60)
    token = os.environ.get("KFT_SERVE_TOKEN")
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})

    def ask(text: str) -> object:
        connection.request(
            "POST", f"{parts.path}:predict", json.dumps({"instances": [text]}).encode(), headers
        )
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise ValueError(f"status {response.status}: {body[:200].decode('utf-8', 'replace')}")
        return json.loads(body)["predictions"][0]

    return ask


def alike(answer: object, wanted: object) -> bool:
    """Whether two predictions are the same but for rounding."""
    if isinstance(wanted, dict):
        return isinstance(answer, dict) and all(alike(answer.get(key), wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return isinstance(answer, list) and all(map(alike, answer, wanted))
    if isinstance(wanted, float):
        return isinstance(answer, float) and abs(answer - wanted) <= TOLERANCE
    return answer == wanted


def summary(tally: Tally, passed: float) -> dict[str, object]:
    seconds = sorted(tally.seconds) or [float("nan")]
    return {
        "requests": len(tally.seconds),
        "requests_per_second": round(len(tally.seconds) / passed, 1),
        "p50_milliseconds": round(1000 * statistics.median(seconds), 1),
        "p99_milliseconds": round(1000 * seconds[int(0.99 * (len(seconds) - 1))], 1),
        "wrong_answers": tally.wrong,
        "errors": len(tally.errors),
        "errors_by_kind": dict(Counter(tally.errors).most_common(5)),
    }


def print_table(result: dict) -> None:
    for name, figures in (("alone", result["alone"]), (f"{result['clients']} clients", result["together"])):
        print(
            f"{name:12} {figures['requests_per_second']:8.1f} requests/s   p50 {figures['p50_milliseconds']:7.1f} ms   "
            f"p99 {figures['p99_milliseconds']:7.1f} ms   {figures['requests']:,} requests, {figures['wrong_answers']} wrong, "
            f"{figures['errors']} failed"
        )
    for error, count in result["together"]["errors_by_kind"].items():
        print(f"  {count} times {error}")
    print(f"ratio        {result['ratio']:8.2f}")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("url")
    parser.add_argument("--texts", required=True, help="file with a text a line")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--alone-seconds", type=float, default=10)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
