"""The walkthrough, by the aws CLI as it comes: sign-ups that workers take from a queue."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import unittest

from server import REGION, Suite

# The CLI of the environment the tests run in, or the one on the path.
BESIDE = os.path.join(os.path.dirname(sys.executable), "aws")
AWS = BESIDE if os.path.exists(BESIDE) else shutil.which("aws")


@unittest.skipIf(AWS is None, "there is no aws CLI")
class Walkthrough(Suite):
    def aws(self, *arguments):
        environment = {
            "PATH": os.environ["PATH"],
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "thing",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        command = [AWS, "--endpoint-url", self.server.url, "--output", "json", "sqs", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def test_sign_ups(self):
        url = self.aws("create-queue", "--queue-name", "user-signups")["QueueUrl"]
        self.assertTrue(url.endswith("/000000000000/user-signups"))
        body = '{"userId": "user123", "email": "user@example.com"}'
        sent = self.aws("send-message", "--queue-url", url, "--message-body", body)
        receive = ["receive-message", "--queue-url", url, "--max-number-of-messages", "10"]
        [message] = self.aws(*receive, "--visibility-timeout", "30")["Messages"]
        received_at = time.monotonic()
        self.assertEqual((message["Body"], message["MessageId"]), (body, sent["MessageId"]))
        self.assertEqual(message["MD5OfBody"], sent["MD5OfMessageBody"])
        self.assertEqual(self.aws(*receive), {})
        self.assertLess(time.monotonic() - received_at, 30, "too slow a machine to tell")
        # Not deleted, so it comes back when the timeout is over, which from here on is short.
        changed_at = time.monotonic()
        handle = ["--queue-url", url, "--receipt-handle", message["ReceiptHandle"]]
        self.aws("change-message-visibility", *handle, "--visibility-timeout", "5")
        [again] = self.aws(*receive, "--visibility-timeout", "30", "--wait-time-seconds", "20")["Messages"]
        self.assertGreaterEqual(time.monotonic() - changed_at, 5)
        self.assertEqual(again["MessageId"], message["MessageId"])
        self.aws("delete-message", "--queue-url", url, "--receipt-handle", again["ReceiptHandle"])
        names = ["--attribute-names", "All"]
        counts = self.aws("get-queue-attributes", "--queue-url", url, *names)["Attributes"]
        self.assertEqual(counts["ApproximateNumberOfMessages"], "0")
        self.assertEqual(counts["ApproximateNumberOfMessagesNotVisible"], "0")


class Workers(Suite):
    def test_a_group_of_workers_grows_with_the_load(self):
        """Three times the load, three times the workers: every message is done once."""
        from test_boto3 import connect

        sqs = connect(self.server.url)
        url = sqs.create_queue(QueueName="load")["QueueUrl"]
        done, lock, ending = [], threading.Lock(), threading.Event()

        def work():
            mine = connect(self.server.url)
            while not ending.is_set():
                answer = mine.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
                messages = answer.get("Messages", [])
                if not messages:
                    continue
                with lock:
                    done.extend(message["Body"] for message in messages)
                entries = [
                    {"Id": str(at), "ReceiptHandle": message["ReceiptHandle"]} for at, message in enumerate(messages)
                ]
                assert "Failed" not in mine.delete_message_batch(QueueUrl=url, Entries=entries)

        workers = [threading.Thread(target=work) for _ in range(2)]
        for worker in workers:
            worker.start()
        sent = []
        for load in (1, 3):
            if load == 3:
                more = [threading.Thread(target=work) for _ in range(4)]
                for worker in more:
                    worker.start()
                workers += more
            for batch in range(20 * load):
                bodies = [f"{load}-{batch}-{at}" for at in range(10)]
                entries = [{"Id": str(at), "MessageBody": body} for at, body in enumerate(bodies)]
                assert "Failed" not in sqs.send_message_batch(QueueUrl=url, Entries=entries)
                sent += bodies
        until = time.monotonic() + 30
        while len(done) < len(sent) and time.monotonic() < until:
            time.sleep(0.05)
        ending.set()
        for worker in workers:
            worker.join(10)
        self.assertEqual(sorted(done), sorted(sent))


if __name__ == "__main__":
    unittest.main()
