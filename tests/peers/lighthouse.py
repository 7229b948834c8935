"""Lighthouse on pages of the built site: python tests/peers/lighthouse.py [PAGE ...]

Prints its four scores, page by page, and what keeps one below 95. Needs Node and Chromium; the
first run fetches Lighthouse with npx. The server compresses, as the hosts of static pages do. No test
asserts a score: it depends on the machine, which should do nothing else meanwhile.
"""

import functools
import gzip
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from companion.paths import BUILD

VERSION = "12.8.2"
PAGES = (
    "index",
    "primer",
    "02-attention-as-a-kernel",
    "04-language",
    "06-astrocyte-calcium",
    "15-memory",
    "claims",
)
GOAL = 0.95
TIMES = {
    "first": "first-contentful-paint",
    "largest": "largest-contentful-paint",
    "blocked": "total-blocking-time",
}


class Handler(http.server.SimpleHTTPRequestHandler):
    """Compresses text, as the hosts of static pages do."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if path.suffix not in (".html", ".js", ".css", ".svg", ".json") or not path.is_file():
            return super().do_GET()
        body = gzip.compress(path.read_bytes(), 6)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=600")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def report(address: str, form: str) -> dict:
    """What Lighthouse finds on one page, on a desk or a phone."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "report.json"
        command = ["npx", "--yes", f"lighthouse@{VERSION}", address, "--quiet", "--output=json"]
        command += [f"--output-path={result}", "--chrome-flags=--headless=new --no-sandbox"]
        command += ["--only-categories=performance,accessibility,best-practices,seo"]
        command += ["--preset=desktop"] if form == "desk" else []
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        environment = os.environ | {"CHROME_PATH": chromium}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return json.loads(result.read_text())


def main(pages) -> None:
    site = next(
        p for p in (BUILD / "stage/_build/html", BUILD / "committed/_build/html") if p.is_dir()
    )
    handler = functools.partial(Handler, directory=site)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(
        f"{'page':28}{'form':7}performance  accessibility  best practices  SEO  {'  '.join(TIMES)}  kB"
    )
    for page in pages:
        for form in ("desk", "phone"):
            found = report(f"http://127.0.0.1:{server.server_port}/book/{page}.html", form)
            scores = {name: c["score"] for name, c in found["categories"].items()}
            shown = "".join(f"{100 * s:>13.0f}" for s in scores.values())
            times = [found["audits"][audit]["numericValue"] / 1000 for audit in TIMES.values()]
            weight = found["audits"]["total-byte-weight"]["numericValue"] / 1000
            seconds = "".join(f"{s:>9.2f}" for s in times)
            print(f"{page:28}{form:7}{shown}{seconds} s{weight:>7.0f}", flush=True)
            for name, category in found["categories"].items():
                for part in category["auditRefs"] if scores[name] < GOAL else ():
                    audit = found["audits"][part["id"]]
                    if part["weight"] and audit["score"] is not None and audit["score"] < 0.9:
                        print(f"    {name}: {audit['title']} {audit.get('displayValue', '')}")


if __name__ == "__main__":
    main(sys.argv[1:] or PAGES)
