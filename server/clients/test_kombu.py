"""kombu, by which Celery speaks to SQS, against the server."""

import unittest

try:
    import kombu
except ImportError:
    kombu = None

from server import REGION, Suite


@unittest.skipIf(kombu is None, "kombu is not installed")
class Kombu(Suite):
    def connect(self, visibility=30):
        address = self.server.url.removeprefix("http://")
        options = {
            "is_secure": False,
            "region": REGION,
            "wait_time_seconds": 1,
            "polling_interval": 0.1,
            "visibility_timeout": visibility,
        }
        return kombu.Connection(f"sqs://any:thing@{address}//", transport_options=options)

    def test_tasks_are_sent_and_acknowledged(self):
        with self.connect() as connection:
            queue = connection.SimpleQueue(self.name())
            for number in range(12):
                queue.put({"number": number, "text": "é ✓"})
            done = []
            for _ in range(12):
                message = queue.get(timeout=10)
                done.append(message.payload["number"])
                message.ack()
            self.assertEqual(sorted(done), list(range(12)))
            with self.assertRaises(queue.Empty):
                queue.get(timeout=1)
            queue.close()

    def test_a_task_that_is_not_acknowledged_comes_back(self):
        name = self.name()
        with self.connect(visibility=2) as connection:
            queue = connection.SimpleQueue(name)
            queue.put("lost")
            self.assertEqual(queue.get(timeout=10).payload, "lost")
            # The worker dies.
        with self.connect() as connection:
            queue = connection.SimpleQueue(name)
            message = queue.get(timeout=10)
            self.assertEqual(message.payload, "lost")
            message.ack()
            queue.close()


if __name__ == "__main__":
    unittest.main()
