// better-auth with its bearer plugin and Node's own SQLite: `node with_better_auth.mjs PORT`, in an empty folder.
// https://www.better-auth.com/docs/installation

import { createServer } from "node:http";
import { DatabaseSync } from "node:sqlite";

import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import { bearer } from "better-auth/plugins";

const port = Number(process.argv[2]);
const options = {
  baseURL: `http://127.0.0.1:${port}`,
  secret: "benchmark-7f3a9c52e8b14d60a1-benchmark-44c0b9d2",
  database: new DatabaseSync("users.db"),
  emailAndPassword: { enabled: true },
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
  plugins: [bearer()],
};

const { runMigrations } = await getMigrations(options);
await runMigrations();
const answer = toNodeHandler(betterAuth(options));

const server = createServer((request, response) => {
  if (request.url === "/health") {
    response.writeHead(200, { "content-type": "application/json", "content-length": 2 }).end("{}");
  } else {
    answer(request, response);
  }
});
server.keepAliveTimeout = 60_000;
server.listen(port, "127.0.0.1");
