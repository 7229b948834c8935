"""What every page weighs and whether it passes its checks in a browser: python tests/peers/pages.py

Of the site in TRIPARTITE_SITE, or of that of the committed outputs. kB as stored; `sent` is what a
server that compresses sends for the page, its pictures and the data of its explorers, and `shared`
at the end what is loaded once. The checks are those of test_page in test_site.py, in both themes, at
both widths and on paper; what fails is named below.
"""

import gzip
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from bs4 import BeautifulSoup

from companion.build import committed_site
from companion.paths import BUILD

TESTS = Path(__file__).resolve().parents[1]
sys.path.append(str(TESTS))


class Outcomes:
    """Pages by what their two tests, one a theme, came to."""

    def __init__(self):
        self.passed, self.failed = {}, {}

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.failed:
            page, _, theme = report.nodeid.split("[")[1].rstrip("]").rpartition("-")
            (self.passed if report.passed else self.failed).setdefault(page, []).append(theme)


def weights(site: Path, page: str) -> list[float]:
    """kB of HTML, of the mathematics in it, of pictures, of explorers' data; of all that is sent."""
    path = site / f"{page}.html"
    soup = BeautifulSoup(path.read_bytes(), "html.parser")
    pictures = {(path.parent / image["src"]).resolve() for image in soup.find_all("img")}
    data = [path.parent / urlsplit(e["data-from"]).path for e in soup.select("figure.explorer")]
    mathematics = sum(len(str(e).encode()) for e in soup.find_all("mjx-container"))
    stored = [sum(file.stat().st_size for file in files) for files in ([path], pictures, data)]
    sent = sum(_sent(file) for file in [path, *pictures, *data])
    return [size / 1000 for size in (stored[0], mathematics, *stored[1:], sent)]


def _sent(file: Path) -> int:
    compressed = file.suffix in (".png", ".jpg", ".woff", ".woff2")
    return file.stat().st_size if compressed else len(gzip.compress(file.read_bytes(), 6))


def main() -> None:
    from test_site import FIGURE_PAGES, PAGES

    given = os.environ.get("TRIPARTITE_SITE")
    site = Path(given) if given else committed_site(BUILD / "committed")
    os.environ["TRIPARTITE_SITE"] = str(site)
    seen = Outcomes()
    arguments = ["-q", "--no-header", "--tb=line", "-p", "no:cacheprovider"]
    pytest.main([*arguments, f"{TESTS}/test_site.py::test_page"], plugins=[seen])
    print(f"{'page':38}{'HTML':>6}{'maths':>7}{'pictures':>10}{'data':>6}{'sent':>6}  checks")
    for page in PAGES + FIGURE_PAGES:
        html, mathematics, pictures, data, sent = weights(site, page)
        verdict = f"fails: {', '.join(seen.failed[page])}" if page in seen.failed else "pass"
        verdict = verdict if page in seen.failed or page in seen.passed else "not run"
        row = f"{html:6.0f}{mathematics:7.0f}{pictures:10.0f}{data:6.0f}{sent:6.0f}"
        print(f"{page:38}{row}  {verdict}")
    soup = BeautifulSoup((site / "book/index.html").read_bytes(), "html.parser")
    addresses = [e["src"] for e in soup.select("script[src]")]
    addresses += [e["href"] for e in soup.select("link[rel=stylesheet]")]
    shared = {(site / "book" / urlsplit(address).path).resolve() for address in addresses}
    print(
        f"shared: {len(shared)} scripts and sheets, {sum(map(_sent, shared)) / 1000:.0f} kB sent, once"
    )


if __name__ == "__main__":
    main()
