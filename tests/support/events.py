#!/usr/bin/env python3
"""events.py: reads and writes our topics with other people's code: kafka-python, the CloudEvents SDK
and protobuf of Python. Run by the virtual environment that tests/support/venv.sh makes.

  read BROKERS TOPIC COUNT [TYPE]   waits for COUNT events and prints each as a line of JSON: attributes and message
  junk BROKERS TOPIC KEY            writes one record of each bad kind (see bad_records), prints how many
  put BROKERS TOPIC KEY TYPE JSON   writes a CloudEvent with that message, made by the SDK; prints its id
  letter BROKERS TOPIC GROUP KEY TYPE JSON   the same as a dead letter of GROUP
"""
import json
import os
import subprocess
import sys
import tempfile
import time

from cloudevents.http import CloudEvent
from cloudevents.kafka import KafkaMessage, from_binary, to_binary
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import InvalidRecordError

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WAIT_S = 60


def messages():
    """{event type: message class}, from proto/ as any consumer would get it, and proto/contract.lock."""
    with tempfile.NamedTemporaryFile() as out:
        folder = os.path.join(ROOT, "proto", "enclii", "v1")
        subprocess.run(["protoc", f"--proto_path={ROOT}/proto", "-o", out.name]
                       + [os.path.join(folder, n) for n in os.listdir(folder) if n.endswith(".proto")], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read())
    pool, left = descriptor_pool.DescriptorPool(), list(files.file)
    while left:
        file = left.pop(0)
        try:
            pool.Add(file)
            pool.FindFileByName(file.name)
        except (KeyError, TypeError):
            left.append(file)
    classes = {}
    with open(os.path.join(ROOT, "proto", "contract.lock"), encoding="utf-8") as lock:
        for line in lock:
            if line.startswith("type "):
                name, message = line[len("type "):].strip().split(" = ")
                classes[name] = message_factory.GetMessageClass(pool.FindMessageTypeByName(message))
    return classes


def read(brokers, topic, count, wanted=""):
    classes = messages()
    consumer = KafkaConsumer(topic, bootstrap_servers=brokers, auto_offset_reset="earliest", group_id=None,
                             consumer_timeout_ms=1000)
    left, end = int(count), time.monotonic() + WAIT_S
    while left and time.monotonic() < end:
        for record in consumer:
            event = from_binary(KafkaMessage(dict(record.headers), record.key, record.value),
                                data_unmarshaller=lambda data: data)
            if wanted not in ("", event["type"]):
                continue
            body = classes[event["type"]].FromString(event.data)
            trace = dict(record.headers).get("traceparent", b"").decode()  # a header of Kafka's own, not of CloudEvents
            print(json.dumps({"attributes": dict(event.get_attributes()), "key": record.key.decode(), "trace": trace,
                              "message": json_format.MessageToDict(body, preserving_proto_field_name=True)},
                             default=bytes.decode),
                  flush=True)
            left -= 1
            if not left:
                break
    return 0 if not left else f"only {int(count) - left} of {count} events within {WAIT_S} s"


def headers(number, kind="dev.enclii.build.started.v1", version="1.0"):
    return [("ce_specversion", version.encode()), ("ce_id", f"bad-{number}".encode()), ("ce_source", b"/stranger"),
            ("ce_type", kind.encode()), ("ce_time", b"2026-11-21T10:00:00Z")]


def bad_records(key):
    """(key, value, headers) of records that no consumer can use."""
    service = b"\x12\x28\x1a\x26" + b"0190a6b0-dead-7000-8000-000000000001xx"  # BuildQueued.service.service_id
    queued = "dev.enclii.build.queued.v1"
    yield key, b"\x0b" * 100000, headers(1)                                 # groups nested 100,000 deep
    yield key, b"\xff\xff\xff", headers(2)                                  # no protobuf at all
    yield key, b"", headers(3, "dev.enclii.build.exploded.v1")              # unknown type
    yield key, b"", headers(4, "dev.enclii.build.started.v9")               # from the future
    yield key, b"", headers(5, "org.example.anything")                      # not ours
    yield key, service, headers(6, queued)                                  # about another service than its key
    yield None, b"hello", []                                                # no CloudEvent
    yield key, b"", headers(8)[:1]                                          # without id and type
    yield key, b"", headers(9, version="0.3")                               # another specification
    yield b"\xff\xfe", b"", headers(10)                                     # the key is no text
    yield b"k" * 600, b"", headers(11)                                      # nor is this
    yield key, b"\x0a\x02\xff\xfe", headers(12)                             # text that is not UTF-8
    yield key, b"\x5a\x00" * 1000000, headers(13, "dev.enclii.build.succeeded.v1")  # a million empty steps
    yield key, b"\0" * ((8 << 20) + 1), headers(14)                         # too large
    yield key, b"\0" * ((8 << 20) - 100), headers(15) + [("x-long", b"x" * 800000)]  # so is its letter
    yield key, b"", headers(16) + [(f"h{i}", b"") for i in range(40)]       # too many headers


def junk(brokers, topic, key):
    producer = KafkaProducer(bootstrap_servers=brokers, max_request_size=12 << 20, acks="all")
    count = 0
    for record_key, value, record_headers in bad_records(key.encode()):
        try:
            producer.send(topic, key=record_key, value=value, headers=record_headers, partition=0).get(30)
            count += 1
        except InvalidRecordError:
            pass  # a compacted topic takes no record without a key
    producer.close()
    print(count)
    return 0


def cloud_event(key, kind, message):
    """A record made by the SDK from a message of the contract."""
    body = json_format.ParseDict(json.loads(message), messages()[kind]())
    event = CloudEvent({"type": kind, "source": "/stranger", "subject": key, "partitionkey": key},
                       body.SerializeToString())
    event["datacontenttype"] = "application/protobuf"
    return event, to_binary(event, data_marshaller=lambda data: data)


def send(brokers, topic, key, record, more=()):
    producer = KafkaProducer(bootstrap_servers=brokers, acks="all")
    sent = producer.send(topic, key=key.encode(), value=record.value, headers=list(record.headers.items()) + list(more))
    sent.get(30)
    producer.close()


def put(brokers, topic, key, kind, message):
    event, record = cloud_event(key, kind, message)
    send(brokers, topic, key, record)
    print(event["id"])
    return 0


def letter(brokers, topic, group, key, kind, message):
    event, record = cloud_event(key, kind, message)
    send(brokers, f"{topic}.{group}.dead", key, record, [
        ("dead_reason", b"written by a test"), ("dead_topic", topic.encode()), ("dead_partition", b"0"),
        ("dead_offset", str(time.time_ns()).encode()), ("dead_group", group.encode())])
    print(event["id"])
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in ("read", "junk", "put", "letter"):
        sys.exit(__doc__)
    sys.exit({"read": read, "junk": junk, "put": put, "letter": letter}[sys.argv[1]](*sys.argv[2:]))
