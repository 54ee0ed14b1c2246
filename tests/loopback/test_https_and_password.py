"""A JupyterLab that has a certificate or a password of the user's."""

from __future__ import annotations

import http.client
import json
import os
import pty
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING

import pytest
from loopback import accepts, finished, free_port, wait_until
from notebook import evaluate

from jlab_node.registry.record import Record, parse

if TYPE_CHECKING:
    from pathlib import Path

    from loopback import Loopback

pytestmark = pytest.mark.full

PASSWORD = "correct horse"


def certificate(directory: Path) -> tuple[Path, Path]:
    """As the recipe makes one: certificate and key."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "365",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
         "-keyout", key, "-out", cert],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return cert, key


def record_of(site: Loopback, process: subprocess.Popen[bytes]) -> Record:
    return parse(site.wait_for_session(process).read_text())


def url_through_a_tunnel(site: Loopback) -> str:
    """What `jlab-proxy url` prints, while `ssh -N` is open."""
    port = free_port()
    setup = site.proxy("setup", "demo", "--yes", "--port", str(port))
    subprocess.run(setup, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    site.add_process(subprocess.Popen(site.ssh("-N", "jlab+demo"), stdin=subprocess.DEVNULL))
    wait_until(lambda: accepts(port), "the forward listens")
    said = subprocess.run(site.proxy("url", "demo"), check=True, capture_output=True, text=True)
    return said.stdout.strip()


def test_https(site: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = certificate(site.home)
    process = site.start_session("--", f"--certfile={cert}", f"--keyfile={key}")
    record = record_of(site, process)
    assert record.scheme == "https"
    url = url_through_a_tunnel(site)
    assert url.startswith("https://127.0.0.1:")
    # A browser that trusts this certificate and no other.
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    monkeypatch.setenv("WEBSOCKET_CLIENT_CA_BUNDLE", str(cert))
    assert evaluate(url, "6*7") == "42"
    words = ["--columns=80", "--port=8888", f"--sockets={record.socket_dir}"]
    announced = finished(["bash", site.home / ".jlab" / "connect", *words], env=site.env)
    assert announced.stderr.endswith(", JupyterLab at https://127.0.0.1:8888/\n")


def test_https_by_the_users_configuration(site: Loopback) -> None:
    cert, key = certificate(site.home)
    config = site.home / ".jupyter" / "jupyter_server_config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"ServerApp": {"certfile": str(cert), "keyfile": str(key)}}))
    process = site.start_session("--", "--ServerApp.base_url=/alice/")
    record = record_of(site, process)
    assert (record.scheme, record.base_url) == ("https", "/alice/")


def test_a_certificate_that_is_not_there(site: Loopback) -> None:
    process = site.start_session("--", f"--certfile={site.home}/cert.pem")
    assert process.wait(timeout=60) == 1
    log = (site.root / "job.log").read_text()
    assert "jlab-node: jupyter-lab ended with exit code 1 before it answered" in log
    assert site.records() == []


class Browser:
    """One that keeps cookies and follows redirects."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self._root = f"{parts.scheme}://{parts.netloc}"
        self._cookies = CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self._cookies)
        )

    def status(self, path: str, form: dict[str, str] | None = None) -> int:
        """HTTP status of a page, or of the answer to a form."""
        crumbs = {cookie.name: cookie.value or "" for cookie in self._cookies}
        text = urllib.parse.urlencode({**form, "_xsrf": crumbs["_xsrf"]}) if form else ""
        try:
            with self._opener.open(self._root + path, text.encode() or None, timeout=60) as page:
                return int(page.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code


def log_in(url: str, password: str) -> int:
    """HTTP status of what a password opens."""
    browser = Browser(url)
    assert browser.status("/login") == http.client.OK
    browser.status("/login", {"password": password})
    return browser.status("/api/contents")


@pytest.mark.parametrize("how", ["argument", "jupyter server password"])
def test_a_password_beside_the_token(site: Loopback, how: str) -> None:
    hash_it = "import sys; from jupyter_server.auth import passwd; print(passwd(sys.argv[1]))"
    hashed = subprocess.run(
        [sys.executable, "-c", hash_it, PASSWORD], check=True, capture_output=True, text=True
    ).stdout.strip()
    if how == "argument":
        session = site.start_session("--", f"--PasswordIdentityProvider.hashed_password={hashed}")
    else:
        set_password(site)
        session = site.start_session()
    assert record_of(site, session).scheme == "http"
    url = url_through_a_tunnel(site)
    assert evaluate(url, "6*7") == "42"
    assert log_in(url, PASSWORD) == http.client.OK
    assert log_in(url, "wrong horse") == http.client.FORBIDDEN
    assert Browser(url).status("/api/contents") == http.client.FORBIDDEN


def set_password(site: Loopback) -> None:
    """`jupyter server password`, which asks twice, and insists on a terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        words = [sys.executable, "-m", "jupyter_server", "password"]
        os.execve(words[0], words, site.env)
    for _ in range(2):
        said = b""
        while not said.endswith(b"assword: "):
            said += os.read(terminal, 1)
        os.write(terminal, PASSWORD.encode() + b"\n")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert (site.home / ".jupyter" / "jupyter_server_config.json").exists()
