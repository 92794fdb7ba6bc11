"""Serve any of the codecs with a thread for each connection, on `socketserver`."""

from __future__ import annotations

import signal
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, cast

from ._contract import (
    CUT,
    IDLE,
    Dialogue,
    Event,
    Limits,
    Reply,
    Service,
    drop,
    logger,
    refuse_coroutine_function,
    shut,
    takes_more,
)
from ._listen import address_of

_POLL_INTERVAL = 0.1  # seconds until an acceptor sees that it is to end
# Bytes at a time. What waits should hold little meanwhile (500 connections took 119 MiB where each
# waited with room for 64 KiB, and take 70), but of what came with nothing to spare more will come.
_READ, _READ_ON = 16384, 65536


class Server(Generic[Event, Reply]):
    """Serves one service on any number of listening sockets, until it is stopped.

    Handlers are plain functions, which may block; TypeError for a coroutine function. A handler
    is not told that the MTA has closed before it has returned: no thread can be cancelled.
    """

    def __init__(self, service: Service[Event, Reply], limits: Limits | None = None) -> None:
        refuse_coroutine_function(service)
        self.service = service
        self.limits = limits or Limits()
        self.sessions: dict[socket.socket, _Session[Event, Reply]] = {}
        self.changed = threading.Condition()
        self.stopping = False
        self._stopped = threading.Event()
        self._acceptors: list[_Acceptor[Event, Reply]] = []
        self._threads: list[threading.Thread] = []

    def listen(self, *listeners: socket.socket) -> None:
        """Serve on these sockets from now on; they are closed by `stop`."""
        acceptors = [_Acceptor(self, one) for one in listeners]
        self._acceptors += acceptors
        loops = [lambda one=one: one.serve_forever(_POLL_INTERVAL) for one in acceptors]
        started = [threading.Thread(target=loop) for loop in (self._keep_alive, *loops)]
        for thread in started:
            thread.start()
        self._threads += started

    def stop(self) -> None:
        """Take no more connections, and let what is under way end within the grace time."""
        self.stopping = True
        for acceptor in self._acceptors:
            acceptor.shutdown()
            acceptor.server_close()
        for session in self._all():
            session.end_if_idle()
        with self.changed:
            if not self.changed.wait_for(lambda: not self.sessions, self.limits.grace):
                logger.warning(CUT, len(self.sessions))
                for session in self.sessions.values():
                    session.cut()
                # They end at once, but for those in the user's code, which can't be stopped:
                # their threads end with the program.
                self.changed.wait_for(
                    lambda: all(one.at_work for one in self.sessions.values()), timeout=1
                )
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def run(self, *listeners: socket.socket) -> None:
        """Serve until SIGTERM or SIGINT, then stop. Only the main thread can."""
        told, tell = socket.socketpair()
        tell.settimeout(0)
        signals = (signal.SIGTERM, signal.SIGINT)
        before = [signal.signal(number, lambda *_: None) for number in signals]
        # Not by a handler: Python calls that in this thread only, and if the kernel has given the
        # signal to another one, nothing wakes this one.
        wakeup = signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
        try:
            self.listen(*listeners)
            logger.info("listening on %s", ", ".join(map(address_of, listeners)))
            while told.recv(1)[0] not in signals:
                pass
            self.stop()
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in zip(signals, before, strict=True):
                signal.signal(number, handler)
            told.close()
            tell.close()

    def _keep_alive(self) -> None:
        """The one clock for all that is at work."""
        while not self._stopped.wait(self.service.keep_alive_interval):
            self._keep_all_alive()

    def _keep_all_alive(self) -> None:
        # In a function of its own, or the last session would be kept while this one waits.
        for session in self._all():
            session.keep_alive()

    def _all(self) -> list[_Session[Event, Reply]]:
        with self.changed:
            return list(self.sessions.values())


class _Acceptor(socketserver.ThreadingMixIn, socketserver.BaseServer, Generic[Event, Reply]):
    """Accepts connections from one listening socket."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, server: Server[Event, Reply], listener: socket.socket) -> None:
        super().__init__(cast("Any", None), cast("Any", None))
        self._server = server
        # A client that has gone again must not leave us waiting for the next one.
        listener.settimeout(0)
        self._listener = listener

    def fileno(self) -> int:
        return self._listener.fileno()

    def get_request(self) -> tuple[Any, Any]:
        try:
            return self._listener.accept()
        except OSError as error:
            if not isinstance(error, BlockingIOError):  # out of descriptors, which takes time
                logger.error("no connection can be accepted: %s", error)
                time.sleep(1)  # as asyncio does
            raise

    def server_close(self) -> None:
        self._listener.close()

    def verify_request(self, request: Any, _address: object) -> bool:
        with self._server.changed:
            if self._server.limits.is_full(len(self._server.sessions)):
                return False
            self._server.sessions[request] = _Session(self._server, request)
            return True

    def finish_request(self, request: Any, _address: object) -> None:
        self._server.sessions[request].converse()

    def shutdown_request(self, request: Any) -> None:
        request.close()
        with self._server.changed:
            self._server.sessions.pop(request, None)
            self._server.changed.notify_all()

    def handle_error(self, _request: object, _address: object) -> None:
        logger.exception("a connection is closed")


class _Session(Generic[Event, Reply]):
    """One connection."""

    def __init__(self, server: Server[Event, Reply], connection: socket.socket) -> None:
        self._server = server
        self._socket = connection
        # The kernel's timeouts: for Python's own, each read and write would be a poll() first.
        seconds, rest = divmod(server.limits.idle_timeout, 1)
        timeout = struct.pack("ll", int(seconds), int(rest * 1e6))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connection.setsockopt(socket.SOL_SOCKET, option, timeout)
        self._dialogue: Dialogue[Event, Reply] | None = None
        self._is_cut = False
        self._waiting = False
        self._most = _READ
        # Free while the handler works, and at no other time.
        self._ours = threading.Lock()
        self._ours.acquire()

    @property
    def at_work(self) -> bool:
        """Whether it is in the user's code."""
        return not self._ours.locked()

    def end_if_idle(self) -> None:
        """End between two messages."""
        if self._waiting and self._dialogue is not None and self._dialogue.idle:
            shut(self._socket, socket.SHUT_RD)

    def cut(self) -> None:
        """End now, or when the handler has returned."""
        self._is_cut = True
        if self._dialogue is not None:
            self._dialogue.abandon()
        shut(self._socket, socket.SHUT_RDWR)

    def keep_alive(self) -> None:
        """Say that the handler is at work, if it is, and if that blocks nobody."""
        if self._dialogue is not None and self._ours.acquire(blocking=False):
            # At work it stays so meanwhile, for its end needs the lock.
            try:
                if takes_more(self._socket):
                    self._dialogue.keep_alive()
            finally:
                self._ours.release()

    def converse(self) -> None:
        """Hand out events and read more, in turn, to the end."""
        # Here and not before: the user's own code should hold up no other connection.
        dialogue = self._dialogue = Dialogue(
            self._server.service, self._server.limits, self._write, self._call
        )
        if self._is_cut:
            dialogue.abandon()
        while not dialogue.is_over:
            dialogue.run()
            if not dialogue.is_over:
                dialogue.receive(self._read(dialogue))
        self._dialogue = None  # which holds this session

    def _call(
        self, function: Callable[..., Any], handler: Callable[[Event], Any], event: Event
    ) -> Any:
        self._ours.release()
        try:
            return function(handler, event)
        finally:
            self._ours.acquire()

    def _read(self, dialogue: Dialogue[Event, Reply]) -> bytes:
        """What comes next; empty for the end, when it takes too long, and when we are to stop."""
        # In this order, and the other way round in `Server.stop`: one of the two sees the other.
        self._waiting = True
        data = b""
        try:
            if not (self._server.stopping and dialogue.idle):
                data = self._socket.recv(self._most)
        except BlockingIOError:
            logger.info(IDLE, self._server.limits.idle_timeout)
        except OSError:
            pass
        finally:
            self._waiting = False
        self._most = _READ if len(data) < self._most else _READ_ON
        return data

    def _write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError:
            if self._dialogue is not None:  # can't be None: it is what writes
                self._dialogue.write = drop
                self._dialogue.receive(b"")
