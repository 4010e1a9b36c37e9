"""A machine to begin with: an SHDR adapter, as many controls have it, that says a load and a status word."""

import socketserver
import sys
import time


class Machine(socketserver.BaseRequestHandler):
    """Tells whoever connects what it does, five times a second."""

    def handle(self) -> None:
        """Go on until nobody listens any more."""
        for number in range(1_000_000):
            now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() % 10**9:09d}Z"
            line = f"{now}|load|{20 + number % 7}.5|status|{5 + 16 * (number % 2)}\n"
            self.request.sendall(line.encode())
            time.sleep(0.2)


socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer.daemon_threads = True
socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), Machine).serve_forever()
