// The Node peer: the usual GitHub library and the usual Kafka client, the same work as webhook: HMAC over the raw
// body, the push parsed, 202 only after the broker acknowledged (acks=all).
//   node peer.mjs PORT BROKER TOPIC SECRET
import { createServer } from "node:http";
import { Webhooks } from "@octokit/webhooks";
import { Kafka, logLevel } from "kafkajs";
const [port, broker, topic, secret] = process.argv.slice(2);
const kafka = new Kafka({ clientId: "peer", brokers: [broker], logLevel: logLevel.ERROR });
const admin = kafka.admin();
await admin.connect();
await admin.createTopics({ topics: [{ topic, numPartitions: 6, replicationFactor: 1 }] });
await admin.disconnect();
const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 5 });
await producer.connect();
const webhooks = new Webhooks({ secret });
webhooks.on("push", async ({ id, payload: p }) => {
  const paths = new Set();
  for (const c of p.commits) for (const f of [...c.added, ...c.removed, ...c.modified]) paths.add(f);
  const value = JSON.stringify({ delivery: id, repo: p.repository.clone_url, ref: p.ref, before: p.before, after: p.after,
    pusher: p.pusher.name, head: p.head_commit, paths: [...paths] });
  await producer.send({ topic, acks: -1, messages: [{ key: p.repository.full_name, value }] });
});
createServer((req, res) => {
  const chunks = [];
  req.on("data", (c) => chunks.push(c));
  req.on("end", async () => {
    try {
      await webhooks.verifyAndReceive({ id: req.headers["x-github-delivery"], name: req.headers["x-github-event"],
        signature: req.headers["x-hub-signature-256"], payload: Buffer.concat(chunks).toString() });
      res.writeHead(202, { "content-type": "application/json", "content-length": 2 }).end("{}");
    } catch (e) { console.error(e.message); res.writeHead(500).end(); }
  });
}).listen(port, "127.0.0.1");
