"""Ten thousand idle connections, or as many as the machine lets a process have files for: they take little, and are in nobody's way."""

import os
import socket
import unittest

from server import Suite

try:
    import resource
except ImportError:
    resource = None

# Per connection; hyper's two buffers are 16 KiB of it.
BYTES_MAX = 40 << 10


@unittest.skipIf(resource is None or not os.path.exists("/proc/self/status"), "there is no /proc")
class Idle(Suite):
    arguments = ("--threads", "2")

    @classmethod
    def setUpClass(cls):
        # The server has the usual limit, and raises it itself.
        super().setUpClass()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        cls.most = min(10_000, (hard if hard != resource.RLIM_INFINITY else 20_000) - 600)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, cls.most + 200), hard))

    def resident(self):
        with open(f"/proc/{self.server.process.pid}/status") as status:
            [line] = [line for line in status if line.startswith("VmRSS")]
        return int(line.split()[1]) << 10

    def ask(self, connection):
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        self.assertIn(b" 200 OK", connection.recv(4096))

    def test_ten_thousand(self):
        host, port = self.server.url.removeprefix("http://").rsplit(":", 1)
        before = self.resident()
        connections = [socket.create_connection((host, int(port)), 30) for _ in range(self.most)]
        self.addCleanup(lambda: [connection.close() for connection in connections])
        for connection in connections:
            self.ask(connection)
        each = (self.resident() - before) / len(connections)
        self.assertLess(each, BYTES_MAX)
        for connection in connections[::100]:
            self.ask(connection)


if __name__ == "__main__":
    unittest.main()
