"""What a browser does: log in to JupyterLab, start a kernel, run code in it over the websocket."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
import uuid
from http.cookiejar import CookieJar
from typing import Any

import websocket


def evaluate(url: str, code: str, *, kernel: str | None = None, timeout: float = 60) -> str:
    """Value of `code` in a new kernel of the server whose log-in address is `url`."""
    parts = urllib.parse.urlsplit(url)
    root = f"{parts.scheme}://{parts.netloc}{parts.path.removesuffix('lab')}"
    cookies = CookieJar()
    browser = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(cookies)
    )
    with browser.open(url, timeout=timeout) as page:
        assert b"JupyterLab" in page.read(), "that is not JupyterLab's page"
    crumbs = {cookie.name: cookie.value or "" for cookie in cookies}

    def api(method: str, path: str, body: dict[str, str] | None = None) -> Any:
        request = urllib.request.Request(
            root + path,
            data=json.dumps(body).encode() if body else None,
            method=method,
            headers={"X-XSRFToken": crumbs["_xsrf"]},
        )
        with browser.open(request, timeout=timeout) as answer:
            return json.loads(answer.read() or "null")

    started = api("POST", "api/kernels", {"name": kernel} if kernel else None)["id"]
    try:
        channel = websocket.create_connection(
            f"ws{root[4:]}api/kernels/{started}/channels",
            cookie="; ".join(f"{name}={value}" for name, value in crumbs.items()),
            origin=f"{parts.scheme}://{parts.netloc}",
            timeout=timeout,
        )
        try:
            return _execute(channel, code)
        finally:
            channel.close()
    finally:
        api("DELETE", f"api/kernels/{started}")


def _execute(channel: Any, code: str) -> str:
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "session": uuid.uuid4().hex,
        "username": "",
        "version": "5.3",
    }
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
    request = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
    channel.send(json.dumps({**request, "channel": "shell", "buffers": []}))
    while True:
        message = json.loads(channel.recv())
        if message["parent_header"].get("msg_id") != header["msg_id"]:
            continue
        if message["msg_type"] == "execute_result":
            return str(message["content"]["data"]["text/plain"])
        if message["msg_type"] == "error":
            raise RuntimeError("\n".join(message["content"]["traceback"]))
