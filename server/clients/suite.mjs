// @aws-sdk/client-sqs, which checks digests itself, and sqs-consumer against the server.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";

import * as sdk from "@aws-sdk/client-sqs";
import { Consumer } from "sqs-consumer";

let server, sqs;

before(async () => {
  server = spawn(process.env.EPOQ_SERVER, ["--listen", "127.0.0.1:0", "--log", "warn"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  for await (const line of createInterface({ input: server.stdout })) {
    const endpoint = line.split(" ").at(-1);
    sqs = new sdk.SQSClient({
      endpoint,
      region: "us-east-1",
      credentials: { accessKeyId: "any", secretAccessKey: "thing" },
      maxAttempts: 1,
    });
    break;
  }
});

after(async () => {
  sqs?.destroy();
  const ended = new Promise((resolve) => server.once("exit", resolve));
  server.kill("SIGTERM");
  assert.equal(await ended, 0);
});

let names = 0;
const create = async (suffix = "", attributes = {}) => {
  const given = { QueueName: `node-${names++}${suffix}`, Attributes: attributes };
  return (await sqs.send(new sdk.CreateQueueCommand(given))).QueueUrl;
};

test("a message with attributes goes there and back", async () => {
  const QueueUrl = await create();
  const MessageAttributes = {
    text: { DataType: "String", StringValue: "héllo ✓" },
    bytes: { DataType: "Binary", BinaryValue: new Uint8Array([0, 255, 16]) },
    number: { DataType: "Number.int", StringValue: "42" },
  };
  for (const MessageBody of ["plain", "\u{1f600} \r\n\t\"<&>", "x".repeat(1_000_000)]) {
    await sqs.send(new sdk.SendMessageCommand({ QueueUrl, MessageBody, MessageAttributes }));
    const { Messages } = await sqs.send(
      new sdk.ReceiveMessageCommand({
        QueueUrl,
        WaitTimeSeconds: 2,
        MessageAttributeNames: ["All"],
        MessageSystemAttributeNames: ["All"],
      }),
    );
    const [message] = Messages;
    assert.equal(message.Body, MessageBody);
    assert.deepEqual({ ...message.MessageAttributes.bytes.BinaryValue }, { 0: 0, 1: 255, 2: 16 });
    assert.equal(message.MessageAttributes.number.DataType, "Number.int");
    assert.equal(message.Attributes.ApproximateReceiveCount, "1");
    await sqs.send(new sdk.DeleteMessageCommand({ QueueUrl, ReceiptHandle: message.ReceiptHandle }));
  }
});

test("batches fail in part, and lists may be missing", async () => {
  const QueueUrl = await create();
  const Entries = ["a", "\u0001", "b"].map((MessageBody, at) => ({ Id: `${at}`, MessageBody }));
  const sent = await sqs.send(new sdk.SendMessageBatchCommand({ QueueUrl, Entries }));
  assert.deepEqual(sent.Successful.map(({ Id }) => Id), ["0", "2"]);
  assert.deepEqual(sent.Failed.map(({ Id, Code }) => [Id, Code]), [["1", "InvalidMessageContents"]]);
  const { Messages } = await sqs.send(new sdk.ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10 }));
  const handles = Messages.map(({ MessageId, ReceiptHandle }) => ({ Id: MessageId, ReceiptHandle }));
  const deleted = await sqs.send(new sdk.DeleteMessageBatchCommand({ QueueUrl, Entries: handles }));
  assert.equal(deleted.Successful.length, 2);
  assert.equal((await sqs.send(new sdk.ReceiveMessageCommand({ QueueUrl }))).Messages, undefined);
});

test("errors are of their classes", async () => {
  const QueueUrl = await create();
  await assert.rejects(sqs.send(new sdk.GetQueueUrlCommand({ QueueName: "nothing" })), sdk.QueueDoesNotExist);
  await assert.rejects(
    sqs.send(new sdk.DeleteMessageCommand({ QueueUrl, ReceiptHandle: "garbage" })),
    sdk.ReceiptHandleIsInvalid,
  );
  await assert.rejects(sqs.send(new sdk.SendMessageBatchCommand({ QueueUrl, Entries: [] })), sdk.EmptyBatchRequest);
  await assert.rejects(
    sqs.send(new sdk.ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 11 })),
    /Must be between 1 and 10, if provided\./,
  );
});

test("dead letters", async () => {
  const dead = await create();
  const names = { QueueUrl: dead, AttributeNames: ["QueueArn"] };
  const { Attributes } = await sqs.send(new sdk.GetQueueAttributesCommand(names));
  const RedrivePolicy = JSON.stringify({ deadLetterTargetArn: Attributes.QueueArn, maxReceiveCount: 1 });
  const QueueUrl = await create("", { RedrivePolicy, VisibilityTimeout: "0" });
  await sqs.send(new sdk.SendMessageCommand({ QueueUrl, MessageBody: "bad" }));
  const receive = async (url) =>
    (await sqs.send(new sdk.ReceiveMessageCommand({ QueueUrl: url }))).Messages?.map(({ Body }) => Body);
  assert.deepEqual(await receive(QueueUrl), ["bad"]);
  assert.equal(await receive(QueueUrl), undefined);
  assert.deepEqual(await receive(dead), ["bad"]);
});

test("groups in order", async () => {
  const QueueUrl = await create(".fifo", { FifoQueue: "true", ContentBasedDeduplication: "true" });
  for (const MessageBody of ["1", "2", "2", "3"]) {
    const sent = await sqs.send(new sdk.SendMessageCommand({ QueueUrl, MessageBody, MessageGroupId: "g" }));
    assert.equal(sent.SequenceNumber.length, 20);
  }
  const { Messages } = await sqs.send(new sdk.ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10 }));
  assert.deepEqual(Messages.map(({ Body }) => Body), ["1", "2", "3"]);
});

test("a consumer takes what comes, and what it fails at comes back", async () => {
  const QueueUrl = await create("", { VisibilityTimeout: "1" });
  const seen = [];
  let done;
  const all = new Promise((resolve) => (done = resolve));
  const consumer = Consumer.create({
    queueUrl: QueueUrl,
    sqs,
    batchSize: 10,
    waitTimeSeconds: 5,
    pollingCompleteWaitTimeMs: 5000,
    handleMessage: async (message) => {
      seen.push(message.Body);
      if (message.Body === "2" && seen.filter((body) => body === "2").length === 1) {
        throw new Error("once");
      }
      if (new Set(seen).size === 5 && seen.length >= 6) {
        done();
      }
      return message;
    },
  });
  consumer.on("error", (error) => assert.fail(error));
  consumer.on("processing_error", () => {});
  consumer.start();
  const Entries = ["0", "1", "2", "3", "4"].map((MessageBody) => ({ Id: MessageBody, MessageBody }));
  await sqs.send(new sdk.SendMessageBatchCommand({ QueueUrl, Entries }));
  await all;
  // Its last delete is under way.
  const stopped = new Promise((resolve) => consumer.once("stopped", resolve));
  consumer.stop();
  await stopped;
  assert.deepEqual(seen.toSorted(), ["0", "1", "2", "2", "3", "4"]);
});
