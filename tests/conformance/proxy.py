"""A TCP relay to a daemon that cuts, loses, delays and duplicates, as a scenario says."""

import queue
import socket
import threading
import time


class Proxy:
    """Upwards is from the client to the daemon. Any thread."""

    def __init__(self, port):
        self.target = port
        self.delay_s = 0.0
        self.lose_up = self.lose_down = self.refusing = self.duplicating = False
        self.up_bytes = 0
        self.pairs = []
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def do(self, what, value=None):
        if what == "cut":
            with self.lock:
                pairs, self.pairs = self.pairs, []
            for one in pairs:
                shut(one)
        elif what == "lose-answers":
            self.lose_down = value
        elif what == "lose-requests":
            self.lose_up = value
        elif what == "delay":
            self.delay_s = value / 1000
        elif what == "refuse":
            self.refusing = value
        elif what == "duplicate":
            self.duplicating = value
        else:
            raise ValueError(f"no such fault: {what}")

    def close(self):
        self.listener.close()
        self.do("cut")

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.refusing:
                shut(client)
                continue
            try:
                daemon = socket.create_connection(("127.0.0.1", self.target))
                double = socket.create_connection(("127.0.0.1", self.target)) if self.duplicating else None
            except OSError:
                shut(client)
                continue
            with self.lock:
                self.pairs += [client, daemon] + ([double] if double else [])
            for sock in (client, daemon):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._relay(client, [daemon] + ([double] if double else []), up=True)
            self._relay(daemon, [client], up=False)
            if double:
                self._relay(double, [], up=False)

    def _relay(self, source, targets, up):
        waiting = queue.Queue()

        def read():
            while True:
                try:
                    data = source.recv(1 << 16)
                except OSError:
                    data = b""
                if up:
                    self.up_bytes += len(data)
                waiting.put((time.monotonic() + self.delay_s, data))
                if not data:
                    return

        def write():
            while True:
                due, data = waiting.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    for target in targets:
                        shut(target)
                    return
                if self.lose_up if up else self.lose_down:
                    continue
                for target in targets:
                    try:
                        target.sendall(data)
                    except OSError:
                        shut(source)

        threading.Thread(target=read, daemon=True).start()
        threading.Thread(target=write, daemon=True).start()


def shut(sock):
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    sock.close()
