"""boto3 against the server: the semantics that people rely on, as a client sees them."""

import hashlib
import json
import threading
import time
import unittest

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from server import ACCOUNT, REGION, Server, Suite


def connect(url, key="any", secret="thing", region=REGION):
    return boto3.client(
        "sqs",
        endpoint_url=url,
        region_name=region,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
    )


class Case(Suite):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.sqs = connect(cls.server.url)

    def queue(self, suffix="", **attributes):
        attributes = {name: str(value) for name, value in attributes.items()}
        return self.sqs.create_queue(QueueName=self.name(suffix), Attributes=attributes)["QueueUrl"]

    def fifo(self, **attributes):
        return self.queue(".fifo", FifoQueue="true", **attributes)

    def arn(self, url):
        return self.attributes(url)["QueueArn"]

    def attributes(self, url):
        return self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]

    def receive(self, url, count=10, **more):
        return self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=count, **more).get("Messages", [])

    def refused(self, code, call, text=None, status=None, **arguments):
        with self.assertRaises(ClientError) as caught:
            call(**arguments)
        response = caught.exception.response
        self.assertEqual(response["Error"]["Code"], code)
        if text is not None:
            self.assertEqual(response["Error"]["Message"], text)
        if status is not None:
            self.assertEqual(response["ResponseMetadata"]["HTTPStatusCode"], status)
        return caught.exception


class Standard(Case):
    def test_a_message_lives_and_ends(self):
        url = self.queue()
        sent = self.sqs.send_message(QueueUrl=url, MessageBody="héllo wörld ✓")
        self.assertEqual(sent["MD5OfMessageBody"], "aa0c8a307a4488bfe0cb56530da19bc3")
        [message] = self.receive(url, MessageSystemAttributeNames=["All"])
        self.assertEqual(message["Body"], "héllo wörld ✓")
        self.assertEqual(message["MessageId"], sent["MessageId"])
        self.assertEqual(message["MD5OfBody"], sent["MD5OfMessageBody"])
        self.assertEqual(message["Attributes"]["ApproximateReceiveCount"], "1")
        self.assertAlmostEqual(int(message["Attributes"]["SentTimestamp"]) / 1000, time.time(), delta=30)
        self.assertNotIn("Messages", self.sqs.receive_message(QueueUrl=url))
        self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        counts = self.attributes(url)
        self.assertEqual(counts["ApproximateNumberOfMessages"], "0")
        self.assertEqual(counts["ApproximateNumberOfMessagesNotVisible"], "0")

    def test_visibility_ends_and_is_changed(self):
        url = self.queue(VisibilityTimeout=3)
        self.sqs.send_message(QueueUrl=url, MessageBody="a")
        [first] = self.receive(url)
        self.assertEqual(self.receive(url), [])
        [second] = self.receive(url, WaitTimeSeconds=10, AttributeNames=["ApproximateReceiveCount"])
        self.assertEqual(second["Attributes"], {"ApproximateReceiveCount": "2"})
        self.assertNotEqual(first["ReceiptHandle"], second["ReceiptHandle"])
        change = self.sqs.change_message_visibility
        change(QueueUrl=url, ReceiptHandle=second["ReceiptHandle"], VisibilityTimeout=0)
        [third] = self.receive(url, VisibilityTimeout=60)
        error = self.refused(
            "InvalidParameterValue",
            change,
            QueueUrl=url,
            ReceiptHandle=third["ReceiptHandle"],
            VisibilityTimeout=43200,
        )
        self.assertIn("Total VisibilityTimeout for the message is beyond the limit [43200 seconds].", str(error))
        self.sqs.delete_message(QueueUrl=url, ReceiptHandle=third["ReceiptHandle"])
        self.refused("InvalidParameterValue", change, QueueUrl=url, ReceiptHandle=third["ReceiptHandle"], VisibilityTimeout=1)

    def test_handles_are_of_their_queue(self):
        url, other = self.queue(), self.queue()
        self.sqs.send_message(QueueUrl=url, MessageBody="a")
        handle = self.receive(url)[0]["ReceiptHandle"]
        self.refused(
            "ReceiptHandleIsInvalid",
            self.sqs.delete_message,
            f'The receipt handle "{handle}" is not valid for this queue.',
            QueueUrl=other,
            ReceiptHandle=handle,
        )
        error = self.refused(
            "ReceiptHandleIsInvalid",
            self.sqs.delete_message,
            'The input receipt handle "garbage" is not a valid receipt handle.',
            404,
            QueueUrl=url,
            ReceiptHandle="garbage",
        )
        self.assertIsInstance(error, self.sqs.exceptions.ReceiptHandleIsInvalid)

    def test_a_long_poll_wakes_for_a_send_and_for_a_delay(self):
        url = self.queue()
        for delay in (0, 1):
            timer = threading.Timer(
                0.3, lambda: self.sqs.send_message(QueueUrl=url, MessageBody="late", DelaySeconds=delay)
            )
            began = time.monotonic()
            timer.start()
            [message] = self.receive(url, WaitTimeSeconds=10)
            took = time.monotonic() - began
            timer.join()
            self.assertGreater(took, 0.2 + delay)
            self.assertLess(took, 5)
            self.assertEqual(message["Body"], "late")

    def test_delays(self):
        url = self.queue(DelaySeconds=900)
        self.sqs.send_message(QueueUrl=url, MessageBody="late")
        self.sqs.send_message(QueueUrl=url, MessageBody="now", DelaySeconds=0)
        self.assertEqual([message["Body"] for message in self.receive(url)], ["now"])
        self.assertEqual(self.attributes(url)["ApproximateNumberOfMessagesDelayed"], "1")
        self.refused("InvalidParameterValue", self.sqs.send_message, QueueUrl=url, MessageBody="x", DelaySeconds=901)

    def test_message_attributes_and_their_filters(self):
        url = self.queue()
        attributes = {
            "Hello": {"DataType": "String", "StringValue": "There"},
            "Help.Me": {"DataType": "String", "StringValue": "Me"},
            "General": {"DataType": "String", "StringValue": "Kenobi"},
        }
        sent = self.sqs.send_message(QueueUrl=url, MessageBody="a", MessageAttributes=attributes)
        self.assertEqual(sent["MD5OfMessageAttributes"], "4c360f3fdafd970e05fae2f149d997f5")
        for names, md5, shown in [
            (["All"], "4c360f3fdafd970e05fae2f149d997f5", {"Hello", "Help.Me", "General"}),
            (["Hel.*"], "83fee93c1bcd8b9a5a923ffacdc636c7", {"Hello", "Help.Me"}),
            (["Hello", "nothing", "AWS."], "a311262e065454b75da111d535b8dacd", {"Hello"}),
            (["hello"], None, set()),
        ]:
            [message] = self.receive(url, VisibilityTimeout=0, MessageAttributeNames=names)
            self.assertEqual(set(message.get("MessageAttributes", {})), shown)
            self.assertEqual(message.get("MD5OfMessageAttributes"), md5)
        binary = {"b": {"DataType": "Binary", "BinaryValue": b"\0\1\2"}, "n": {"DataType": "Number.int", "StringValue": "1"}}
        self.sqs.purge_queue(QueueUrl=url)
        self.sqs.send_message(QueueUrl=url, MessageBody="a", MessageAttributes=binary)
        [message] = self.receive(url, MessageAttributeNames=["All"])
        self.assertEqual(message["MessageAttributes"], binary)
        for bad in [
            {"a": {"DataType": "Text", "StringValue": "x"}},
            {"a": {"DataType": "String", "StringValue": ""}},
            {"a": {"DataType": "Number", "StringValue": "x"}},
            {"AWS.x": {"DataType": "String", "StringValue": "x"}},
            {str(number): {"DataType": "String", "StringValue": "x"} for number in range(11)},
        ]:
            self.refused("InvalidParameterValue", self.sqs.send_message, QueueUrl=url, MessageBody="x", MessageAttributes=bad)

    def test_trace_headers(self):
        url = self.queue()
        header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
        given = {"AWSTraceHeader": {"DataType": "String", "StringValue": header}}
        sent = self.sqs.send_message(QueueUrl=url, MessageBody="a", MessageSystemAttributes=given)
        self.assertEqual(sent["MD5OfMessageSystemAttributes"], "5ae4d5d7636402d80f4eb6d213245a88")
        [message] = self.receive(url, MessageSystemAttributeNames=["AWSTraceHeader"])
        self.assertEqual(message["Attributes"], {"AWSTraceHeader": header})

    def test_batches_fail_in_part(self):
        url = self.queue(MaximumMessageSize=1024)
        entries = [
            {"Id": "good", "MessageBody": "a"},
            {"Id": "long", "MessageBody": "x" * 1025},
            {"Id": "control", "MessageBody": "\x01"},
            {"Id": "late", "MessageBody": "a", "DelaySeconds": 1000},
            {"Id": "also-good", "MessageBody": "x" * 1024},
        ]
        result = self.sqs.send_message_batch(QueueUrl=url, Entries=entries)
        self.assertEqual([entry["Id"] for entry in result["Successful"]], ["good", "also-good"])
        failed = {entry["Id"]: entry for entry in result["Failed"]}
        self.assertEqual(
            failed["long"]["Message"],
            "One or more parameters cannot be validated. Reason: Message must be shorter than 1024 bytes.",
        )
        self.assertEqual(failed["control"]["Code"], "InvalidMessageContents")
        self.assertEqual(failed["late"]["Code"], "InvalidParameterValue")
        self.assertTrue(all(entry["SenderFault"] for entry in failed.values()))
        handles = [message["ReceiptHandle"] for message in self.receive(url)]
        self.assertEqual(len(handles), 2)
        entries = [{"Id": str(at), "ReceiptHandle": handle} for at, handle in enumerate([*handles, "garbage"])]
        changes = [{**entry, "VisibilityTimeout": 60} for entry in entries]
        for result in (
            self.sqs.change_message_visibility_batch(QueueUrl=url, Entries=changes),
            self.sqs.delete_message_batch(QueueUrl=url, Entries=entries),
        ):
            self.assertEqual([entry["Id"] for entry in result["Successful"]], ["0", "1"])
            self.assertEqual([(entry["Id"], entry["Code"]) for entry in result["Failed"]], [("2", "ReceiptHandleIsInvalid")])

    def test_batches_are_refused_as_a_whole(self):
        url = self.queue()
        prefix = "AWS.SimpleQueueService."
        entry = lambda id, body="a": {"Id": id, "MessageBody": body}
        for entries, code, text in [
            ([], "EmptyBatchRequest", "There should be at least one SendMessageBatchRequestEntry in the request."),
            (
                [entry(str(at)) for at in range(20)],
                "TooManyEntriesInBatchRequest",
                "Maximum number of entries per request are 10. You have sent 20.",
            ),
            ([entry("a"), entry("b"), entry("a")], "BatchEntryIdsNotDistinct", "Id a repeated."),
            ([entry("a b")], "InvalidBatchEntryId", None),
            (
                [entry("a", "x" * 1048576), entry("b", "x")],
                "BatchRequestTooLong",
                "Batch requests cannot be longer than 1048576 bytes. You have sent 1048577 bytes.",
            ),
        ]:
            error = self.refused(prefix + code, self.sqs.send_message_batch, text, 400, QueueUrl=url, Entries=entries)
            self.assertIsInstance(error, getattr(self.sqs.exceptions, code))

    def test_sizes_and_characters(self):
        url = self.queue()
        body = "x" * 1048576
        self.sqs.send_message(QueueUrl=url, MessageBody=body)
        [message] = self.receive(url)
        self.assertEqual(message["Body"], body)
        self.refused(
            "InvalidParameterValue",
            self.sqs.send_message,
            "One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes.",
            QueueUrl=url,
            MessageBody=body + "x",
        )
        self.refused("MissingParameter", self.sqs.send_message, QueueUrl=url, MessageBody="")
        for body in ["\0", "\x0b", "a\ufffe"]:
            self.refused("InvalidMessageContents", self.sqs.send_message, QueueUrl=url, MessageBody=body)
        for body in ['"<&>\'\\/', "\t\r\n", "\U0001f600 \u2028 \ud7ff \ufffd", "\x7f\x80\x9f"]:
            sent = self.sqs.send_message(QueueUrl=url, MessageBody=body)
            [message] = self.receive(url)
            self.assertEqual(message["Body"], body)
            self.assertEqual(sent["MD5OfMessageBody"], hashlib.md5(body.encode()).hexdigest())

    def test_dead_letters_and_their_way_back(self):
        dead = self.queue()
        policy = {"deadLetterTargetArn": self.arn(dead), "maxReceiveCount": 1}
        url = self.queue(RedrivePolicy=json.dumps(policy))
        self.assertEqual(json.loads(self.attributes(url)["RedrivePolicy"]), policy)
        sent = self.sqs.send_message(QueueUrl=url, MessageBody="bad")
        self.assertEqual(len(self.receive(url, VisibilityTimeout=0)), 1)
        self.assertEqual(self.receive(url), [])
        [letter] = self.receive(dead, MessageSystemAttributeNames=["All"], VisibilityTimeout=0)
        self.assertEqual(letter["MessageId"], sent["MessageId"])
        self.assertEqual(letter["Attributes"]["ApproximateReceiveCount"], "2")
        self.assertEqual(letter["Attributes"]["DeadLetterQueueSourceArn"], self.arn(url))
        self.assertEqual(self.sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"], [url])
        task = self.sqs.start_message_move_task(SourceArn=self.arn(dead))
        self.assertTrue(task["TaskHandle"])
        [back] = self.receive(url, WaitTimeSeconds=5)
        self.assertEqual(back["Body"], "bad")
        self.assertNotEqual(back["MessageId"], sent["MessageId"])
        [listed] = self.sqs.list_message_move_tasks(SourceArn=self.arn(dead))["Results"]
        self.assertEqual((listed["Status"], listed["ApproximateNumberOfMessagesMoved"]), ("COMPLETED", 1))
        self.refused("ResourceNotFoundException", self.sqs.cancel_message_move_task, status=404, TaskHandle=task["TaskHandle"])
        self.refused("InvalidParameterValue", self.sqs.cancel_message_move_task, TaskHandle="garbage")
        self.refused(
            "InvalidParameterValue",
            self.sqs.start_message_move_task,
            "Source queue must be configured as a Dead Letter Queue.",
            SourceArn=self.arn(url),
        )
        self.refused(
            "ResourceNotFoundException",
            self.sqs.start_message_move_task,
            "The resource that you specified for the SourceArn parameter doesn't exist.",
            404,
            SourceArn=self.arn(url) + "x",
        )

    def test_a_move_task_is_cancelled(self):
        dead = self.queue()
        self.queue(RedrivePolicy=json.dumps({"deadLetterTargetArn": self.arn(dead), "maxReceiveCount": 1}))
        target = self.queue()
        for number in range(5):
            self.sqs.send_message(QueueUrl=dead, MessageBody=str(number))
        start = lambda: self.sqs.start_message_move_task(
            SourceArn=self.arn(dead), DestinationArn=self.arn(target), MaxNumberOfMessagesPerSecond=1
        )
        handle = start()["TaskHandle"]
        self.refused("InvalidParameterValue", start)
        [running] = self.sqs.list_message_move_tasks(SourceArn=self.arn(dead))["Results"]
        self.assertEqual((running["Status"], running["TaskHandle"]), ("RUNNING", handle))
        moved = self.sqs.cancel_message_move_task(TaskHandle=handle)["ApproximateNumberOfMessagesMoved"]
        self.assertLess(moved, 5)
        [cancelled] = self.sqs.list_message_move_tasks(SourceArn=self.arn(dead))["Results"]
        self.assertEqual(cancelled["Status"], "CANCELLED")
        self.assertNotIn("TaskHandle", cancelled)

    def test_redrive_policies_that_cannot_be(self):
        url, fifo = self.queue(), self.fifo()
        set_policy = lambda policy: self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": policy})
        arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:"
        for target, reason in [
            (arn + "nothing", "Dead letter target does not exist."),
            (self.arn(fifo), "Dead-letter queue must be same type of queue as the source.."),
        ]:
            policy = json.dumps({"deadLetterTargetArn": target, "maxReceiveCount": 1})
            text = f"Value {policy} for parameter RedrivePolicy is invalid. Reason: {reason}"
            self.refused("InvalidParameterValue", set_policy, text, policy=policy)
        guarded = self.queue(RedriveAllowPolicy='{"redrivePermission":"denyAll"}')
        policy = json.dumps({"deadLetterTargetArn": self.arn(guarded), "maxReceiveCount": 1})
        self.refused("InvalidParameterValue", set_policy, policy=policy)
        self.sqs.set_queue_attributes(QueueUrl=guarded, Attributes={"RedriveAllowPolicy": ""})
        set_policy(policy)
        set_policy("")
        self.assertNotIn("RedrivePolicy", self.attributes(url))

    def test_fair_queues_take_groups(self):
        url = self.queue()
        sent = self.sqs.send_message(QueueUrl=url, MessageBody="a", MessageGroupId="tenant")
        self.assertNotIn("SequenceNumber", sent)
        [message] = self.receive(url, MessageSystemAttributeNames=["MessageGroupId"])
        self.assertEqual(message["Attributes"], {"MessageGroupId": "tenant"})
        self.refused(
            "InvalidParameterValue",
            self.sqs.send_message,
            "Value x for parameter MessageDeduplicationId is invalid. Reason: The request include parameter that is not valid for this queue type.",
            QueueUrl=url,
            MessageBody="a",
            MessageDeduplicationId="x",
        )

    def test_receives_out_of_range(self):
        url = self.queue()
        for parameter, value, reason in [
            ("MaxNumberOfMessages", 0, "Must be between 1 and 10, if provided."),
            ("MaxNumberOfMessages", 11, "Must be between 1 and 10, if provided."),
            ("WaitTimeSeconds", 21, "Must be >= 0 and <= 20, if provided."),
            ("WaitTimeSeconds", -1, "Must be >= 0 and <= 20, if provided."),
            ("VisibilityTimeout", 43201, "Must be >= 0 and <= 43200, if provided."),
        ]:
            text = f"Value {value} for parameter {parameter} is invalid. Reason: {reason}"
            self.refused("InvalidParameterValue", self.sqs.receive_message, text, 400, QueueUrl=url, **{parameter: value})


class Queues(Case):
    def test_a_fresh_queue_has_these_attributes(self):
        url = self.queue()
        counts = {f"ApproximateNumberOfMessages{state}" for state in ("", "NotVisible", "Delayed")}
        common = {
            "CreatedTimestamp",
            "DelaySeconds",
            "LastModifiedTimestamp",
            "MaximumMessageSize",
            "MessageRetentionPeriod",
            "QueueArn",
            "ReceiveMessageWaitTimeSeconds",
            "SqsManagedSseEnabled",
            "VisibilityTimeout",
        }
        self.assertEqual(set(self.attributes(url)), counts | common)
        fifo = {"ContentBasedDeduplication", "DeduplicationScope", "FifoQueue", "FifoThroughputLimit"}
        self.assertEqual(set(self.attributes(self.fifo())), counts | common | fifo)
        self.assertEqual(self.attributes(url)["MaximumMessageSize"], "1048576")
        self.assertNotIn("Attributes", self.sqs.get_queue_attributes(QueueUrl=url))
        self.refused(
            "InvalidAttributeName",
            self.sqs.get_queue_attributes,
            "Unknown Attribute Foobar.",
            QueueUrl=url,
            AttributeNames=["Foobar"],
        )

    def test_creating_again(self):
        name = self.name()
        url = self.sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "40"})["QueueUrl"]
        self.assertEqual(url, f"{self.server.url}/{ACCOUNT}/{name}")
        for attributes in ({}, {"VisibilityTimeout": "40"}, {"DelaySeconds": "0"}):
            self.assertEqual(self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"], url)
        error = self.refused(
            "QueueAlreadyExists",
            self.sqs.create_queue,
            "A queue already exists with the same name and a different value for attribute VisibilityTimeout",
            QueueName=name,
            Attributes={"VisibilityTimeout": "41"},
        )
        self.assertIsInstance(error, self.sqs.exceptions.QueueNameExists)

    def test_names_and_attributes_that_cannot_be(self):
        create = self.sqs.create_queue
        for name in ["a b", "x" * 81, "a.b", "a.fifo"]:
            self.refused("InvalidParameterValue", create, QueueName=name)
        self.refused("InvalidParameterValue", create, QueueName="plain", Attributes={"FifoQueue": "true"})
        for attributes, code, text in [
            ({"VisibilityTimeout": "43201"}, "InvalidAttributeValue", "Invalid value for the parameter VisibilityTimeout."),
            ({"DelaySeconds": "x"}, "InvalidAttributeValue", "Invalid value for the parameter DelaySeconds."),
            ({"MessageRetentionPeriod": "59"}, "InvalidAttributeValue", None),
            ({"Nonsense": "1"}, "InvalidAttributeName", "Unknown Attribute Nonsense."),
            ({"QueueArn": "1"}, "InvalidAttributeName", None),
            ({"FifoQueue": "false"}, "InvalidAttributeName", "Unknown Attribute FifoQueue."),
            ({"ContentBasedDeduplication": "false"}, "InvalidAttributeName", "Unknown Attribute ContentBasedDeduplication."),
            (
                {"DeduplicationScope": "queue"},
                "InvalidAttributeName",
                "You can specify the DeduplicationScope only when FifoQueue is set to true.",
            ),
            ({"KmsMasterKeyId": "alias/x", "SqsManagedSseEnabled": "true"}, "InvalidAttributeName", None),
            ({"Policy": "no"}, "InvalidAttributeValue", None),
        ]:
            self.refused(code, create, text, QueueName=self.name(), Attributes=attributes)

    def test_setting_is_all_or_nothing(self):
        url = self.queue()
        bad = {"VisibilityTimeout": "7", "DelaySeconds": "x"}
        self.refused("InvalidAttributeValue", self.sqs.set_queue_attributes, QueueUrl=url, Attributes=bad)
        self.assertEqual(self.attributes(url)["VisibilityTimeout"], "30")
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": "alias/aws/sqs", "Policy": '{"a":1}'})
        shown = self.attributes(url)
        self.assertEqual((shown["KmsMasterKeyId"], shown["SqsManagedSseEnabled"]), ("alias/aws/sqs", "false"))
        self.assertEqual((shown["KmsDataKeyReusePeriodSeconds"], shown["Policy"]), ("300", '{"a":1}'))
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": "", "Policy": ""})
        shown = self.attributes(url)
        self.assertEqual(shown["SqsManagedSseEnabled"], "false")
        self.assertNotIn("Policy", shown)

    def test_listing_by_pages(self):
        prefix = self.name()
        urls = [self.sqs.create_queue(QueueName=f"{prefix}-{number}")["QueueUrl"] for number in range(5)]
        list_queues = self.sqs.list_queues
        self.assertEqual(list_queues(QueueNamePrefix=prefix)["QueueUrls"], urls)
        pages = self.sqs.get_paginator("list_queues").paginate(QueueNamePrefix=prefix, PaginationConfig={"PageSize": 2})
        self.assertEqual([len(page["QueueUrls"]) for page in pages], [2, 2, 1])
        self.assertNotIn("QueueUrls", list_queues(QueueNamePrefix=prefix + "no"))
        for bad in ({"MaxResults": 1001}, {"MaxResults": 1, "NextToken": "?"}):
            self.refused("InvalidParameterValue", list_queues, **bad)

    def test_urls_of_all_kinds(self):
        name = self.name()
        self.sqs.create_queue(QueueName=name)
        for url in [name, f"https://sqs.{REGION}.amazonaws.com/123456789012/{name}", f"http://elsewhere/queue/{name}"]:
            self.sqs.send_message(QueueUrl=url, MessageBody="a")
        self.assertEqual(self.sqs.get_queue_url(QueueName=name)["QueueUrl"], f"{self.server.url}/{ACCOUNT}/{name}")
        missing = self.refused(
            "AWS.SimpleQueueService.NonExistentQueue",
            self.sqs.get_queue_url,
            "The specified queue does not exist.",
            400,
            QueueName="nothing",
        )
        self.assertIsInstance(missing, self.sqs.exceptions.QueueDoesNotExist)

    def test_tags(self):
        url = self.sqs.create_queue(QueueName=self.name(), tags={"a": "1"})["QueueUrl"]
        self.sqs.tag_queue(QueueUrl=url, Tags={"A": "2", "a": "3"})
        self.assertEqual(self.sqs.list_queue_tags(QueueUrl=url)["Tags"], {"A": "2", "a": "3"})
        self.sqs.untag_queue(QueueUrl=url, TagKeys=["a", "A", "nothing"])
        self.assertNotIn("Tags", self.sqs.list_queue_tags(QueueUrl=url))

    def test_permissions(self):
        url = self.queue()
        add = lambda label: self.sqs.add_permission(
            QueueUrl=url, Label=label, AWSAccountIds=["123456789012"], Actions=["ReceiveMessage"]
        )
        add("one")
        arn = self.arn(url)
        self.assertEqual(
            json.loads(self.attributes(url)["Policy"]),
            {
                "Version": "2008-10-17",
                "Id": f"{arn}/SQSDefaultPolicy",
                "Statement": [
                    {
                        "Sid": "one",
                        "Effect": "Allow",
                        "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
                        "Action": "SQS:ReceiveMessage",
                        "Resource": arn,
                    }
                ],
            },
        )
        self.refused(
            "InvalidParameterValue", add, "Value one for parameter Label is invalid. Reason: Already exists.", label="one"
        )
        self.sqs.remove_permission(QueueUrl=url, Label="one")
        self.assertNotIn("Policy", self.attributes(url))
        self.refused(
            "InvalidParameterValue",
            self.sqs.remove_permission,
            "Value one for parameter Label is invalid. Reason: can't find label.",
            QueueUrl=url,
            Label="one",
        )

    def test_purging_and_deleting(self):
        url = self.queue()
        for body in "abc":
            self.sqs.send_message(QueueUrl=url, MessageBody=body)
        self.receive(url, 1)
        self.sqs.purge_queue(QueueUrl=url)
        self.assertEqual(self.receive(url), [])
        waiting = []
        poll = threading.Thread(
            target=lambda: waiting.append(
                self.refused("AWS.SimpleQueueService.NonExistentQueue", self.sqs.receive_message, QueueUrl=url, WaitTimeSeconds=20)
            )
        )
        poll.start()
        time.sleep(0.3)
        self.sqs.delete_queue(QueueUrl=url)
        poll.join(5)
        self.assertEqual(len(waiting), 1)
        self.refused("AWS.SimpleQueueService.NonExistentQueue", self.sqs.delete_queue, QueueUrl=url)

    def test_arns_are_of_the_clients_region(self):
        sqs = connect(self.server.url, region="eu-north-1")
        url = sqs.create_queue(QueueName=self.name())["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        self.assertTrue(arn.startswith(f"arn:aws:sqs:eu-north-1:{ACCOUNT}:"))


class Fifo(Case):
    def send(self, url, group, body, **more):
        return self.sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=group, **more)

    def test_groups_are_in_order_and_locked(self):
        url = self.fifo(ContentBasedDeduplication="true")
        numbers = [
            int(self.send(url, group, body)["SequenceNumber"])
            for group, body in [("1", "a"), ("2", "x"), ("1", "b"), ("1", "c")]
        ]
        self.assertEqual(numbers, sorted(numbers))
        first = self.receive(url, 2)
        self.assertEqual([message["Body"] for message in first], ["a", "b"])
        self.assertEqual([message["Body"] for message in self.receive(url)], ["x"])
        self.assertEqual(self.receive(url), [])
        for message in first:
            self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        [last] = self.receive(url, MessageSystemAttributeNames=["All"], WaitTimeSeconds=2)
        self.assertEqual(last["Body"], "c")
        self.assertEqual(last["Attributes"]["MessageGroupId"], "1")
        self.assertEqual(last["Attributes"]["MessageDeduplicationId"], hashlib.sha256(b"c").hexdigest())
        self.assertEqual(len(last["Attributes"]["SequenceNumber"]), 20)

    def test_duplicates_are_not_accepted_twice(self):
        url = self.fifo()
        first = self.send(url, "g", "a", MessageDeduplicationId="1")
        again = self.send(url, "h", "b", MessageDeduplicationId="1")
        self.assertEqual(again["MessageId"], first["MessageId"])
        [message] = self.receive(url)
        self.assertEqual(message["Body"], "a")
        self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        self.send(url, "g", "a", MessageDeduplicationId="1")
        self.assertEqual(self.receive(url), [])
        self.sqs.purge_queue(QueueUrl=url)
        self.send(url, "g", "a", MessageDeduplicationId="1")
        self.assertEqual(len(self.receive(url)), 1)

    def test_what_a_fifo_queue_asks_for(self):
        url = self.fifo()
        send, batch = self.sqs.send_message, self.sqs.send_message_batch
        no_group = "The request must contain the parameter MessageGroupId."
        no_id = "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly"
        self.refused("MissingParameter", send, no_group, QueueUrl=url, MessageBody="a")
        self.refused("InvalidParameterValue", send, no_id, QueueUrl=url, MessageBody="a", MessageGroupId="g")
        good = {"Id": "1", "MessageBody": "a", "MessageGroupId": "g", "MessageDeduplicationId": "1"}
        bad = {"Id": "2", "MessageBody": "a"}
        self.refused("InvalidParameterValue", batch, no_group, QueueUrl=url, Entries=[good, bad])
        self.refused("InvalidParameterValue", batch, no_id, QueueUrl=url, Entries=[good, {**bad, "MessageGroupId": "g"}])
        self.assertEqual(self.receive(url), [])
        self.refused(
            "InvalidParameterValue",
            send,
            "Value 2 for parameter DelaySeconds is invalid. Reason: The request include parameter that is not valid for this queue type.",
            QueueUrl=url,
            MessageBody="a",
            MessageGroupId="g",
            MessageDeduplicationId="1",
            DelaySeconds=2,
        )
        self.refused(
            "InvalidParameterValue",
            send,
            "Value  for parameter MessageGroupId is invalid. Reason: MessageGroupId can only include alphanumeric and punctuation characters. 1 to 128 in length.",
            QueueUrl=url,
            MessageBody="a",
            MessageGroupId="",
            MessageDeduplicationId="1",
        )
        self.send(url, "g", "a", MessageDeduplicationId="1", DelaySeconds=0)

    def test_an_expired_handle_deletes_nothing(self):
        url = self.fifo(ContentBasedDeduplication="true")
        self.send(url, "g", "a")
        [message] = self.receive(url, VisibilityTimeout=1)
        handle = message["ReceiptHandle"]
        time.sleep(1.1)
        self.refused(
            "InvalidParameterValue",
            self.sqs.delete_message,
            f"Value {handle} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.",
            QueueUrl=url,
            ReceiptHandle=handle,
        )
        result = self.sqs.delete_message_batch(QueueUrl=url, Entries=[{"Id": "1", "ReceiptHandle": handle}])
        self.assertEqual(
            result["Failed"],
            [
                {
                    "Id": "1",
                    "Code": "ReceiptHandleIsInvalid",
                    "Message": "The receipt handle has expired",
                    "SenderFault": True,
                }
            ],
        )

    def test_receive_attempts_are_repeated(self):
        url = self.fifo(ContentBasedDeduplication="true")
        self.send(url, "g", "a")
        attempt = lambda **more: self.receive(url, ReceiveRequestAttemptId="try-1", **more)
        first = attempt(WaitTimeSeconds=1)
        self.assertEqual(attempt(), first)
        self.sqs.delete_message(QueueUrl=url, ReceiptHandle=first[0]["ReceiptHandle"])
        self.refused("InvalidParameterValue", attempt)
        timer = threading.Timer(0.3, lambda: self.send(url, "g", "b"))
        timer.start()
        late = self.receive(url, ReceiveRequestAttemptId="try-2", WaitTimeSeconds=10)
        timer.join()
        self.assertEqual([message["Body"] for message in late], ["b"])

    def test_throughput_needs_the_scope(self):
        attributes = {"FifoQueue": "true", "FifoThroughputLimit": "perMessageGroupId"}
        self.refused("InvalidParameterValue", self.sqs.create_queue, QueueName=self.name(".fifo"), Attributes=attributes)
        attributes["DeduplicationScope"] = "messageGroup"
        url = self.sqs.create_queue(QueueName=self.name(".fifo"), Attributes=attributes)["QueueUrl"]
        first = self.send(url, "g", "a", MessageDeduplicationId="1")
        second = self.send(url, "h", "a", MessageDeduplicationId="1")
        self.assertNotEqual(first["MessageId"], second["MessageId"])


class Configured(unittest.TestCase):
    """What a server does that is configured otherwise."""

    def serve(self, config):
        server = Server(config=config)
        self.addCleanup(lambda: self.assertEqual(server.stop(), 0))
        return server

    def refused(self, call, code, **arguments):
        with self.assertRaises(ClientError) as caught:
            call(**arguments)
        self.assertEqual(caught.exception.response["Error"]["Code"], code)

    def test_rests_are_kept_if_asked_for(self):
        sqs = connect(self.serve("cooldowns = true").url)
        url = sqs.create_queue(QueueName="q")["QueueUrl"]
        sqs.purge_queue(QueueUrl=url)
        self.refused(sqs.purge_queue, "AWS.SimpleQueueService.PurgeQueueInProgress", QueueUrl=url)
        sqs.delete_queue(QueueUrl=url)
        self.refused(sqs.create_queue, "AWS.SimpleQueueService.QueueDeletedRecently", QueueName="q")

    def test_queues_are_there_from_the_start(self):
        server = self.serve(
            """
            [[queues]]
            name = "jobs"
            tags = { team = "a" }
            [queues.attributes]
            VisibilityTimeout = 7
            RedrivePolicy = { deadLetterTargetArn = "arn:aws:sqs:us-east-1:000000000000:failed", maxReceiveCount = 3 }
            [[queues]]
            name = "failed"
            """
        )
        sqs = connect(server.url)
        shown = sqs.get_queue_attributes(QueueUrl="jobs", AttributeNames=["All"])["Attributes"]
        self.assertEqual(shown["VisibilityTimeout"], "7")
        self.assertEqual(json.loads(shown["RedrivePolicy"])["maxReceiveCount"], 3)
        self.assertEqual(sqs.list_queue_tags(QueueUrl="jobs")["Tags"], {"team": "a"})

    def test_signatures_are_verified_if_there_are_keys(self):
        url = self.serve('[auth.keys]\nAKID = "secret"').url
        good = connect(url, "AKID", "secret")
        queue = good.create_queue(QueueName="q")["QueueUrl"]
        good.send_message(QueueUrl=queue, MessageBody="é ✓")
        for key, secret, code in [
            ("AKID", "wrong", "SignatureDoesNotMatch"),
            ("NOBODY", "secret", "InvalidClientTokenId"),
        ]:
            self.refused(connect(url, key, secret).list_queues, code)


if __name__ == "__main__":
    unittest.main()
