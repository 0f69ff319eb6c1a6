"""A page in a browser on this machine posts to Temporal's HTTP API, without asking, and starts a job."""

import json
import urllib.error
import urllib.request
import uuid

import psutil
from support.attacks import ADDRESS, QUEUE, STORE, job, repelled, succeeded


def find_http_port() -> int:
    """Return the port that a page would find by trying them all."""
    port = int(ADDRESS.rpartition(":")[2])
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if f"--port={port}" in words:
            return next(int(word.partition("=")[2]) for word in words if word.startswith("--http-port="))
    raise SystemExit("no server of this address was found")


proof = STORE / "owned-by-a-page"
document = job(command=["sh", "-c", f"touch {proof}; echo x > $0", "{output}"])
body = {"workflowType": {"name": "RenderJob"}, "taskQueue": {"name": QUEUE}, "input": [document]}
url = f"http://127.0.0.1:{find_http_port()}/api/v1/namespaces/default/workflows/page-{uuid.uuid4().hex[:8]}"
answers = []
for host in (None, "localhost", "evil.example", "127.0.0.1"):
    # What a page may send without a question beforehand.
    headers = {"Content-Type": "text/plain", "Origin": "https://evil.example"} | ({"Host": host} if host else {})
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            succeeded(f"the server answered {answer.status} to a page, Host {host}")
    except urllib.error.HTTPError as error:
        answers.append(error.code)
if proof.exists():
    succeeded("a page ran a command")
repelled(f"answers {answers}")
