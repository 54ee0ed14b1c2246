"""What jlab-node brings into the JupyterLab that it starts: this runs there, in that one's Python.

JupyterLab is started on a private unix socket alone, with this text as the configuration file that
its command line names (so neither the environment nor what lies in the working directory can keep
it out). It loads the user's own configuration as Jupyter would have, and when all of that is known,
and before anything is made of it, settles what must hold in a session: the token, no address but
the private socket, kernels on unix sockets in the session's directory, no debugger.

Then it connects to the session's socket `jupyter`, says what it found, and does what it is asked:
`port` opens a port of 127.0.0.1 beside the socket, once jlab-node has seen that nobody gets in
without the token; until `seen` Jupyter does not log what is refused then; `listen` makes the socket
anew; `shut` closes the port for good. When that connection ends, jlab-node is gone, and so
JupyterLab ends too.

It imports nothing of ours, and knows Python 3.7 and jupyter_server 1 and 2. It stays one file, as
its text is handed over whole: JupyterLab's Python need not be one that can import jlab_node.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import struct
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

_DEFAULT_PORT = 8888  # with any other, Jupyter takes no socket; on one it uses none
_GRACE = 10.0  # seconds to end by itself
_BACKLOG = 128
_SEND_BUFFER = 1 << 20  # bytes on their way to who reads from the unix socket
_DEBUG = "debug_request"
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def begin(settings: dict[str, Any]) -> None:
    """Take JupyterLab over while it reads its configuration.

    `settings` has the `token`, whether the `debugger` is wanted, and the paths `runtime` (a
    directory), `sock` (to listen on), `control` (where jlab-node listens) and `config` (the
    user's, "" if it is not named). `survived`: the numbers of signals that end nothing.
    """
    from jupyter_server.serverapp import ServerApp

    continue_when_orphaned()
    outlive_warnings(settings["survived"])
    wait_for(settings["control"])
    app = ServerApp.instance()
    app.runtime_dir = settings["runtime"]
    _load_the_users_own(app, settings["config"])
    agent = Agent(app, settings)
    _around(app, "init_configurables", before=agent.settle_configuration)
    _around(app, "init_httpserver", before=agent.settle_after_extensions, after=agent.connect_soon)


def _load_the_users_own(app: Any, named: str) -> None:
    """Let Jupyter itself look for all that it would have read if our file had not been named."""
    for config in (app.config, app.cli_config):
        config.get("ServerApp", {}).pop("config_file", None)
    app.config_file = named
    app.load_config_file()


def _around(
    app: Any, name: str, *, before: Callable[[], None], after: Callable[[], None] | None = None
) -> None:
    """Let the method `name` of this one application do more."""
    method = getattr(app, name)

    def wrapped(*arguments: Any, **keywords: Any) -> None:
        before()
        method(*arguments, **keywords)
        if after:
            after()

    setattr(app, name, wrapped)


class Agent:
    """What of jlab-node lives in the application `app`, a ServerApp."""

    def __init__(self, app: Any, settings: dict[str, Any]) -> None:
        self._app = app
        self._settings = settings
        self._transport = ""  # of the kernels
        self._channel = Channel()
        self._port = Port()

    def settle_configuration(self) -> None:
        """Settle what must hold: all configuration has been read, and nothing is made of it yet."""
        settle_address(self._app, self._settings["sock"])
        if self._app.file_to_run:  # names the directory to start in; with a socket it is refused
            self._app.root_dir = str(self._app.root_dir)
            self._app.file_to_run = ""
        settle_token(self._app, self._settings["token"])
        self._transport = settle_kernels(self._app.config)

    def settle_after_extensions(self) -> None:
        """Settle the rest: all is made, extensions included, and nothing listens yet."""
        self._app.sock = self._settings["sock"]  # an extension's configuration came later
        if not self._settings["debugger"]:
            manager = self._app.kernel_manager
            allowed = AllButTheDebugger(manager.allowed_message_types)
            manager._trait_values["allowed_message_types"] = allowed
            hide_the_debugger(self._app.web_app.settings)

    def connect_soon(self) -> None:
        """Connect to jlab-node as soon as the server, which is there now, listens."""
        widen(self._app.http_server, self._port)
        # Jupyter's own call, by which it begins to listen, may only be waiting in the same queue.
        self._app.io_loop.add_callback(self._connect)

    def _connect(self) -> None:
        """Say hello to jlab-node and begin to do what it asks, or end JupyterLab."""
        # Where there is no socket, Jupyter has said why, and goes on.
        listens = os.path.lexists(self._settings["sock"])
        if not listens or not self._channel.connect(self._settings["control"]):
            end()
            return
        self._channel.send(hello(self._app, self._transport))
        logging.disable(logging.WARNING)
        threading.Thread(target=self._take_requests, daemon=True).start()

    def _take_requests(self) -> None:
        """Run in a thread, since JupyterLab may be busy for long when jlab-node dies."""
        with contextlib.suppress(OSError):
            for request in self._channel.requests():
                if "shut" in request:
                    self._port.cut()
                self._app.io_loop.add_callback(self._do, request)
        end()

    def _do(self, request: dict[str, Any]) -> None:
        if "listen" in request:
            self._listen_again()
        if "shut" in request:
            self._port.close(self._app.http_server)
        if "seen" in request:
            logging.disable(logging.NOTSET)
        if "port" in request:
            try:
                self._channel.send(self._open(request["port"]))
            except OSError as error:
                self._channel.send({"error": error.strerror or str(error)})

    def _listen_again(self) -> None:
        """Listen on the private socket again, if that was removed and its directory is there."""
        from tornado.netutil import bind_unix_socket

        if not os.path.lexists(self._settings["sock"]):
            with contextlib.suppress(OSError):
                self._app.http_server.add_socket(bind_unix_socket(self._settings["sock"], 0o600))

    def _open(self, port: int) -> dict[str, Any]:
        """Listen on `port` of 127.0.0.1 too, and call that the server's address from now on."""
        app = self._app
        listener = socket.socket()
        try:
            listener.bind(("127.0.0.1", port))  # shared with nobody: not even with who only binds
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        self._port.sockets = [listener]
        app.http_server.add_sockets(self._port.sockets)
        app.port, app.sock = port, ""
        app.write_server_info_file()
        terminals = getattr(app.web_app.settings.get("terminal_manager"), "extra_env", None)
        if terminals and "JUPYTER_SERVER_URL" in terminals:
            terminals["JUPYTER_SERVER_URL"] = app.connection_url
        return {"port": port}


class Channel:
    """The connection to jlab-node: one JSON object a line in both directions."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection = socket.socket(socket.AF_UNIX)

    def connect(self, path: str) -> bool:
        """Connect to the socket `path`; return False if no process of this user listens there."""
        try:
            self._connection.connect(path)
        except OSError:
            return False
        return is_ours(self._connection)

    def send(self, message: dict[str, Any]) -> None:
        """Send the message; raises OSError."""
        with self._lock:
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def requests(self) -> Iterator[dict[str, Any]]:
        """Yield each request until jlab-node has gone; raises OSError."""
        with self._connection.makefile("rb") as lines:
            for line in lines:
                yield json.loads(line)


def hello(app: Any, transport: str) -> dict[str, Any]:
    """Return what JupyterLab says of itself; `transport` is that of its kernels."""
    allowed = app.kernel_manager.allowed_message_types
    return {
        "base_url": app.base_url,
        "secure": bool(app.ssl_options),
        "transport": transport,
        "strange": strange_classes(app),
        "debugger": _DEBUG in allowed or not allowed,
    }


def settle_address(app: Any, sock: str) -> None:
    """Let the server listen on the private socket alone, whatever the configuration says."""
    ours = {
        "sock": sock,
        "sock_mode": "0600",
        "port": _DEFAULT_PORT,
        "ip": "127.0.0.1",
        "open_browser": False,
        "no_browser_open_file": True,  # others may read that file, and the token is in it
    }
    known = {key: value for key, value in ours.items() if app.has_trait(key)}
    app.config["ServerApp"].update(known)
    for key, value in known.items():
        setattr(app, key, value)


def settle_token(app: Any, token: str) -> None:
    """Set our token, whatever the user's configuration says. A password goes on working."""
    provider = getattr(app, "identity_provider_class", None)
    classes = [*type(app).__mro__, *(provider.__mro__ if provider else ())]
    for name in {each.__name__ for each in classes} | {"NotebookApp", "LabApp"}:
        if name in app.config:
            app.config[name].pop("token", None)
    if provider:
        app._token_set = False
        app.config[provider.__name__].token = token
    else:  # jupyter_server 1
        app.token = token


def settle_kernels(config: Any) -> str:
    """Let kernels speak over unix sockets beside their connection files; return their transport.

    Over tcp, other users of the node can read what runs, but the user may want that. With unix
    sockets `ip` would be a path, so one that stands in the user's configuration is left out.
    """
    names = [
        name for name in config if name == "ConnectionFileMixin" or name.endswith("KernelManager")
    ]
    if any(config[name].get("transport") == "tcp" for name in names):
        return "tcp"
    for name in names:
        for key in [key for key in config[name] if key.endswith("_port")]:
            del config[name][key]
        for key in ("ip", "transport", "cache_ports"):
            config[name].pop(key, None)
    config["KernelManager"]["transport"] = "ipc"
    return "ipc"


def strange_classes(app: Any) -> list[str]:
    """Return the classes by which this server tells who comes, if they are not Jupyter's own."""
    provider = getattr(app, "identity_provider", None)
    found = [
        type(provider) if provider else None,
        getattr(provider, "login_handler_class", None),
        app.web_app.settings.get("login_handler_class"),
    ]
    strange = {
        each.__module__ + "." + each.__qualname__
        for each in found
        if isinstance(each, type) and not each.__module__.startswith("jupyter_server.")
    }
    return sorted(strange)


class AllButTheDebugger(list):  # type: ignore[type-arg]
    """Jupyter's list of messages that may get to a kernel (empty: all), without the debugger's.

    The debugger's server asks nobody for a password, and stays when the debugging is over: whoever
    is on the node could run code as the user. Any client can ask for it, not only the page.
    """

    def __contains__(self, kind: object) -> bool:
        return kind != _DEBUG and (not len(self) or super().__contains__(kind))

    def __bool__(self) -> bool:
        return True


def hide_the_debugger(settings: dict[str, Any]) -> None:
    """Take the debugger's button, which would lead nowhere, out of the page."""
    users = settings.get("page_config_hook")

    def hook(handler: Any, page: dict[str, Any]) -> dict[str, Any]:
        page = users(handler, page) if users else page
        disabled = page.setdefault("disabledExtensions", [])
        if isinstance(disabled, list):
            disabled.append("@jupyterlab/debugger-extension")
        return page

    settings["page_config_hook"] = hook


class Port:
    """JupyterLab's port: who listens there, and the connections to it."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self._connections: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._is_cut = False

    def accepts(self, connection: socket.socket) -> bool:
        """Return whether this connection, which has just been made, may go on."""
        self._connections.add(connection)
        return not self._is_cut

    def cut(self) -> None:
        """End all connections at once, whatever JupyterLab is doing, and take no other."""
        self._is_cut = True
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self, server: Any) -> None:
        """Stop listening there."""
        for listener in self.sockets:
            server._handlers.pop(listener.fileno())()
            server._sockets.pop(listener.fileno())
            listener.close()
        self.sockets = []


def widen(server: Any, port: Port) -> None:
    """Let more be on its way to who reads from the unix socket, whose buffers are small.

    What comes over the port is what that `accepts`.
    """
    handle = server.handle_stream

    def handle_stream(stream: Any, address: Any) -> Any:
        if stream.socket.family == socket.AF_UNIX:
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        elif not port.accepts(stream.socket):
            stream.close()
            return None
        return handle(stream, address)

    server.handle_stream = handle_stream


def wait_for(path: str) -> None:
    """Give jlab-node the time to say that a container does not see the session's directory."""
    for _ in range(100):
        if os.path.lexists(path):
            return
        time.sleep(0.1)


def is_ours(connection: socket.socket) -> bool:
    """Return whether a process of this user listens there, or the system does not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, 12))
    return bool(user == os.geteuid())


def continue_when_orphaned() -> None:
    """Ask Linux to let us go on, and so end, if jlab-node dies while we stand still (SIGSTOP)."""
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGCONT)


def outlive_warnings(numbers: list[int]) -> None:
    """Signals by which a batch system warns may go to every process of a job: JupyterLab lives on.

    Until now they were ignored. A handler is not handed on to kernels and terminals, in which the
    user's own programs may want to hear them.
    """
    for number in numbers:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def end() -> None:
    """End JupyterLab as a signal would, and if it does not listen, at once."""
    os.kill(os.getpid(), signal.SIGTERM)

    def kill() -> None:
        time.sleep(_GRACE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
