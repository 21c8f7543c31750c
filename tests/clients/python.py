"""One stock python-socketio client in one namespace, which reads commands and writes what it saw, one JSON text per line.

Must use only the client's public API.
"""

import json
import sys
import threading

import socketio

lock = threading.Lock()


def report(**saw):
    with lock:
        print(json.dumps(saw), flush=True)


class Device:
    def __init__(self):
        self.client = socketio.Client(reconnection_delay=0.05, reconnection_delay_max=0.2)
        self.namespace = "/"
        self.shown = {}
        # Set after the first connect: each later connect is a reconnect.
        self.is_back = threading.Event()

    def connect(self, url, namespace, auth, transports):
        self.namespace = namespace
        self.shown = auth
        on = self.client.on
        on("connect", self._connected, namespace=namespace)
        on("connect_error", self._refused, namespace=namespace)
        on("disconnect", lambda reason: report(saw="disconnect", reason=reason), namespace=namespace)
        on("*", lambda event, *args: report(saw="event", args=[event, *args]), namespace=namespace)
        try:
            self.client.connect(url, auth=lambda: self.shown, namespaces=[namespace], transports=transports, wait_timeout=20)
            # The client reports disconnects only from here on.
            self._report_connect()
            self.is_back.set()
        except socketio.exceptions.ConnectionError:
            pass  # Reported by connect_error.

    def _connected(self):
        if self.is_back.is_set():
            self._report_connect()

    def _report_connect(self):
        report(saw="connect")
        report(saw="transport", name=self.client.transport())

    def _refused(self, data):
        message = data.get("message") if isinstance(data, dict) else str(data)
        report(saw="refused", message=message)

    def auth(self, auth):
        """Used from the next connect on."""
        self.shown = auth

    def emit(self, args, ack=None):
        event, *rest = args
        answered = None
        if ack is not None:
            answered = lambda *answer: report(saw="ack", ack=ack, args=list(answer))
        self.client.emit(event, tuple(rest), namespace=self.namespace, callback=answered)

    def disconnect(self):
        self.client.disconnect()


def main():
    device = Device()
    for line in sys.stdin:
        step = json.loads(line)
        getattr(device, step.pop("do"))(**step)
    device.disconnect()


main()
