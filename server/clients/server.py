"""A server for the suites to talk to: EPOQ_SERVER names its program, or EPOQ_ENDPOINT one that runs already."""

import os
import subprocess
import tempfile
import unittest
import uuid

ACCOUNT = "000000000000"
REGION = "us-east-1"


class Server:
    """A server of its own process, on a port that was free."""

    def __init__(self, *arguments, config=None):
        command = [os.environ["EPOQ_SERVER"], "--listen", "127.0.0.1:0", *arguments]
        self.file = None
        if config is not None:
            self.file = tempfile.NamedTemporaryFile("w", suffix=".toml")
            self.file.write(config)
            self.file.flush()
            command += ["--config", self.file.name]
        environment = {**os.environ, "EPOQ_LOG": "warn"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self.url = self.process.stdout.readline().split()[-1]

    def stop(self):
        """Ends it as an operator would; its exit code."""
        self.process.terminate()
        code = self.process.wait(30)
        self.process.stdout.close()
        if self.file:
            self.file.close()
        return code


class Suite(unittest.TestCase):
    """Tests that share a server, which has to end well."""

    arguments = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.arguments)

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        assert code == 0, f"the server ended with {code}"

    def name(self, suffix=""):
        """A name that no other test has."""
        return f"q-{uuid.uuid4().hex}{suffix}"
