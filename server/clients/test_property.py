"""Every operation of botocore's model, with generated input, valid and not: each gets an answer that botocore parses, and none a 500."""

import os
import random
import string
import unittest

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError, ParamValidationError

from server import ACCOUNT, REGION, Suite

# Calls per operation and kind; EPOQ_PROPERTY_CALLS asks for more.
CALLS = int(os.environ.get("EPOQ_PROPERTY_CALLS", "60"))
SEED = int(os.environ.get("EPOQ_PROPERTY_SEED", "1"))

KNOWN = {
    "AttributeNames": ["All", "VisibilityTimeout", "Policy", "RedrivePolicy", "QueueArn", "SentTimestamp"],
    "Attributes": ["VisibilityTimeout", "DelaySeconds", "Policy", "RedrivePolicy", "RedriveAllowPolicy", "FifoQueue"],
    "DataType": ["String", "Number", "Binary", "String.x", "Text", ""],
}
TEXTS = [
    "",
    "a",
    "0",
    "-1",
    "30",
    "43201",
    "true",
    "{}",
    '{"deadLetterTargetArn":"x","maxReceiveCount":1}',
    "\0",
    "\r\n\t",
    '<&">',
    "é✓😀",
    "\ufffe",
    "x" * 300,
    "../../etc/passwd",
    "%00%ff",
    "a.fifo",
]
NUMBERS = [0, 1, -1, 5, 10, 11, 20, 21, 900, 43200, 43201, 1001, 2**31, -(2**31), 2**63, 10**30]


class Generator:
    """Values for the shapes of a service model."""

    def __init__(self, seed, url, handles):
        self.random = random.Random(seed)
        self.url = url
        self.handles = handles

    def text(self, name):
        choose = self.random.choice
        if name == "QueueUrl" and self.random.random() < 0.8:
            return choose([self.url, self.url + ".fifo", self.url + "nothing"])
        if name == "QueueName" and self.random.random() < 0.8:
            return choose(["property", "property.fifo", "another", "fresh-" + str(self.random.random())[2:6]])
        if name == "ReceiptHandle" and self.handles and self.random.random() < 0.5:
            return choose(self.handles)
        if name.endswith("Arn"):
            return choose(TEXTS + [f"arn:aws:sqs:{REGION}:{ACCOUNT}:property", "arn:aws:sns:r:1:x"])
        if name in KNOWN and self.random.random() < 0.8:
            return choose(KNOWN[name])
        if self.random.random() < 0.3:
            return "".join(choose(string.printable) for _ in range(self.random.randrange(40)))
        return choose(TEXTS)

    def value(self, shape, name="", depth=0):
        kind = shape.type_name
        if kind == "structure":
            return {
                member: self.value(inner, member, depth + 1)
                for member, inner in shape.members.items()
                if member in shape.required_members or self.random.random() < 0.4
            }
        if kind == "list":
            count = self.random.choice([0, 1, 1, 2, 3, 10, 11])
            return [self.value(shape.member, name, depth + 1) for _ in range(count)]
        if kind == "map":
            count = self.random.choice([0, 1, 2, 3, 11])
            return {self.text(name): self.value(shape.value, name, depth + 1) for _ in range(count)}
        if kind in ("integer", "long"):
            return self.random.choice(NUMBERS)
        if kind == "boolean":
            return self.random.random() < 0.5
        if kind == "blob":
            return self.random.randbytes(self.random.randrange(20))
        return self.text(name)

    def nonsense(self, depth=0):
        """Anything that JSON can say, whether the operation has it or not."""
        kind = self.random.randrange(8 if depth < 4 else 6)
        if kind == 0:
            return None
        if kind == 1:
            return self.random.random() < 0.5
        if kind == 2:
            return self.random.choice(NUMBERS)
        if kind == 3:
            return self.random.uniform(-1e9, 1e9)
        if kind in (4, 5):
            return self.random.choice(TEXTS)
        if kind == 6:
            return [self.nonsense(depth + 1) for _ in range(self.random.randrange(4))]
        return {self.random.choice(TEXTS): self.nonsense(depth + 1) for _ in range(self.random.randrange(4))}


class Property(Suite):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        session = botocore.session.get_session()
        cls.options = dict(
            region_name=REGION,
            endpoint_url=cls.server.url,
            aws_access_key_id="any",
            aws_secret_access_key="thing",
            config=Config(retries={"total_max_attempts": 1}, parameter_validation=False, read_timeout=30),
        )
        cls.client = session.create_client("sqs", **cls.options)
        cls.url = cls.client.create_queue(QueueName="property")["QueueUrl"]

    def ask(self, operation, parameters):
        """The answer as botocore parses it, or its error; anything else is the server's fault."""
        try:
            method = self.client._make_api_call
            return method(operation, parameters)
        except ClientError as error:
            response = error.response
            status = response["ResponseMetadata"]["HTTPStatusCode"]
            self.assertIn(status, (400, 403, 404, 413), (operation, parameters, response))
            self.assertTrue(response["Error"]["Code"], (operation, parameters, response))
            self.assertTrue(response["Error"].get("Message"), (operation, parameters, response))
            self.assertTrue(response["ResponseMetadata"].get("RequestId"), (operation, parameters))
            return response

    def prepare(self):
        for name, attributes in [
            ("property", {}),
            ("property.fifo", {"FifoQueue": "true", "ContentBasedDeduplication": "true"}),
        ]:
            self.ask("CreateQueue", {"QueueName": name, "Attributes": attributes})
        self.ask("SendMessage", {"QueueUrl": self.url, "MessageBody": "a"})
        messages = self.ask("ReceiveMessage", {"QueueUrl": self.url}).get("Messages", [])
        return [message["ReceiptHandle"] for message in messages]

    def test_generated_input(self):
        model = self.client.meta.service_model
        self.assertEqual(len(model.operation_names), 23)
        for operation in model.operation_names:
            shape = model.operation_model(operation).input_shape
            generator = Generator(f"{SEED} {operation}", self.url, self.prepare())
            for number in range(CALLS):
                with self.subTest(operation=operation, number=number, seed=SEED):
                    parameters = generator.value(shape)
                    # Waiting for nothing takes time and finds nothing.
                    parameters.pop("WaitTimeSeconds", None)
                    try:
                        self.ask(operation, parameters)
                    except (ParamValidationError, OverflowError, TypeError, ValueError):
                        pass  # botocore cannot even write it
            self.prepare()

    def test_nonsense(self):
        """Members of any type, written past botocore's own serializer."""
        import json
        import urllib.error
        import urllib.request

        for operation in self.client.meta.service_model.operation_names:
            shape = self.client.meta.service_model.operation_model(operation).input_shape
            generator = Generator(f"{SEED} {operation} nonsense", self.url, self.prepare())
            for number in range(CALLS):
                body = {member: generator.nonsense() for member in shape.members if generator.random.random() < 0.7}
                body.pop("WaitTimeSeconds", None)
                if generator.random.random() < 0.7 and "QueueUrl" in shape.members:
                    body["QueueUrl"] = self.url
                request = urllib.request.Request(
                    self.server.url,
                    json.dumps(body).encode(),
                    {"X-Amz-Target": f"AmazonSQS.{operation}", "Content-Type": "application/x-amz-json-1.0"},
                )
                with self.subTest(operation=operation, number=number, seed=SEED):
                    try:
                        with urllib.request.urlopen(request, timeout=30) as response:
                            answer = response.read()
                            self.assertTrue(not answer or isinstance(json.loads(answer), dict))
                    except urllib.error.HTTPError as error:
                        self.assertLess(error.code, 500, body)
                        answer = json.loads(error.read())
                        self.assertTrue(answer["__type"] and answer["message"])
                        self.assertTrue(error.headers["x-amzn-query-error"].endswith(";Sender"))
                        error.close()
            self.prepare()

    def test_query_protocol(self):
        """The same over the Query protocol, parsed by botocore's own parser of it."""
        from botocore.parsers import create_parser
        from botocore.serialize import create_serializer

        import urllib.error
        import urllib.parse
        import urllib.request

        # This model says JSON; the older one had names for the lists of the Query protocol.
        parser, serializer = create_parser("query"), create_serializer("query", False)
        model = self.client.meta.service_model
        for operation in model.operation_names:
            operation_model = model.operation_model(operation)
            generator = Generator(f"{SEED} {operation} query", self.url, self.prepare())
            for number in range(CALLS):
                parameters = generator.value(operation_model.input_shape)
                parameters.pop("WaitTimeSeconds", None)
                with self.subTest(operation=operation, number=number, seed=SEED):
                    try:
                        body = serializer.serialize_to_request(parameters, operation_model)["body"]
                        form = urllib.parse.urlencode(body).encode()
                    except (OverflowError, TypeError, ValueError, UnicodeError):
                        continue
                    kind = {"Content-Type": "application/x-www-form-urlencoded"}
                    try:
                        response = urllib.request.urlopen(
                            urllib.request.Request(self.server.url, form, kind), timeout=30
                        )
                        status = 200
                    except urllib.error.HTTPError as error:
                        response, status = error, error.code
                    with response:
                        raw = {
                            "status_code": status,
                            "headers": dict(response.headers),
                            "body": response.read(),
                        }
                    self.assertLess(status, 500, form)
                    parsed = parser.parse(raw, operation_model.output_shape)
                    self.assertTrue(parsed["ResponseMetadata"].get("RequestId") or status != 200, raw)
                    if status != 200:
                        self.assertTrue(parsed["Error"]["Code"], raw)
            self.prepare()


if __name__ == "__main__":
    unittest.main()
