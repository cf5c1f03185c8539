/**
 * Serves a redis-server by the REST API of Upstash, for the tests and benchmarks of clients that
 * speak only HTTP: POST one command as a JSON array to `/`, several to `/pipeline`, or several that
 * run all or none to `/multi-exec`. An answer is {"result": …} or {"error": …}; with the header
 * `Upstash-Encoding: base64` its strings are in base64.
 *
 *   node upstash_forwarder.mjs <redis port> [bearer token]
 *
 * Prints the port on 127.0.0.1 where it listens, and ends when its input does.
 */

import { createServer } from 'node:http';
import { connect } from 'node:net';
import { pathToFileURL } from 'node:url';

const CRLF = '\r\n';

/** Starts a forwarder on a free port; `close()` ends it. */
export async function startForwarder({ redisPort, token }) {
  const redis = new RedisConnection(redisPort);
  const server = createServer((request, response) => {
    answer(redis, request, token).then(
      ({ status, body }) => reply(response, status, body),
      (error) => reply(response, 500, { error: String(error.message) }),
    );
  });
  server.keepAliveTimeout = 60_000;
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${server.address().port}`;
  const close = async () => {
    redis.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { url, close };
}

async function answer(redis, request, token) {
  if (token !== undefined && request.headers.authorization !== `Bearer ${token}`) {
    return { status: 401, body: { error: 'WRONGPASS invalid or missing auth token' } };
  }
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = JSON.parse(Buffer.concat(chunks).toString());
  const encode = request.headers['upstash-encoding'] === 'base64' ? inBase64 : inText;
  const shown = (value) => (value instanceof RedisError ? { error: value.message } : { result: encode(value) });
  switch (request.url) {
    case '/': {
      const shownValue = shown(await redis.send(body));
      return { status: 'error' in shownValue ? 400 : 200, body: shownValue };
    }
    case '/pipeline':
      return { status: 200, body: (await Promise.all(body.map((command) => redis.send(command)))).map(shown) };
    case '/multi-exec': {
      const commands = [['MULTI'], ...body, ['EXEC']];
      const values = (await Promise.all(commands.map((command) => redis.send(command)))).at(-1);
      if (values instanceof RedisError) return { status: 400, body: { error: values.message } };
      return { status: 200, body: values.map(shown) };
    }
    default:
      return { status: 404, body: { error: 'no such path' } };
  }
}

function reply(response, status, body) {
  response.writeHead(status, { 'Content-Type': 'application/json' });
  response.end(JSON.stringify(body));
}

function inText(value) {
  if (Array.isArray(value)) return value.map(inText);
  return Buffer.isBuffer(value) ? value.toString() : value;
}

function inBase64(value) {
  if (Array.isArray(value)) return value.map(inBase64);
  if (Buffer.isBuffer(value)) return value.toString('base64');
  return typeof value === 'string' && value !== 'OK' ? Buffer.from(value).toString('base64') : value;
}

class RedisError extends Error {}

/** One connection, which is made again when it is gone. Answers come in the order of commands. */
class RedisConnection {
  #port;
  #socket;
  #waiting;
  #received;

  constructor(port) {
    this.#port = port;
    this.#connect();
  }

  send(command) {
    const parts = command.map((part) => Buffer.from(typeof part === 'object' ? JSON.stringify(part) : String(part)));
    const head = Buffer.from(`*${parts.length}${CRLF}`);
    const bulks = parts.flatMap((part) => [Buffer.from(`$${part.length}${CRLF}`), part, Buffer.from(CRLF)]);
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) this.#connect();
      this.#waiting.push({ resolve, reject });
      this.#socket.write(Buffer.concat([head, ...bulks]));
    });
  }

  close() {
    this.#socket.destroy();
  }

  #connect() {
    const waiting = [];
    this.#waiting = waiting;
    this.#received = Buffer.alloc(0);
    const socket = connect(this.#port, '127.0.0.1');
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (data) => this.#take(data));
    for (const event of ['error', 'close']) {
      socket.on(event, () => {
        socket.destroy();
        for (const { reject } of waiting.splice(0)) reject(new Error('the connection to Redis is gone'));
      });
    }
  }

  #take(data) {
    this.#received = this.#received.length === 0 ? data : Buffer.concat([this.#received, data]);
    let at = 0;
    for (let read = readValue(this.#received, at); read !== undefined; read = readValue(this.#received, at)) {
      at = read.end;
      this.#waiting.shift().resolve(read.value);
    }
    this.#received = this.#received.subarray(at);
  }
}

/** A value of RESP2 and where it ends; undefined while a part of it is missing. */
function readValue(bytes, start) {
  const lineEnd = bytes.indexOf(CRLF, start);
  if (lineEnd === -1) return undefined;
  const text = bytes.toString('utf8', start + 1, lineEnd);
  const end = lineEnd + CRLF.length;
  switch (String.fromCharCode(bytes[start])) {
    case '+':
      return { value: text, end };
    case '-':
      return { value: new RedisError(text), end };
    case ':':
      return { value: Number(text), end };
    case '$': {
      const length = Number(text);
      if (length === -1) return { value: null, end };
      if (bytes.length < end + length + CRLF.length) return undefined;
      return { value: bytes.subarray(end, end + length), end: end + length + CRLF.length };
    }
    case '*':
      return Number(text) === -1 ? { value: null, end } : readArray(bytes, Number(text), end);
    default:
      throw new Error(`not RESP2: ${text}`);
  }
}

function readArray(bytes, length, start) {
  const value = [];
  let end = start;
  while (value.length < length) {
    const item = readValue(bytes, end);
    if (item === undefined) return undefined;
    value.push(item.value);
    end = item.end;
  }
  return { value, end };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [redisPort, token] = process.argv.slice(2);
  const { url } = await startForwarder({ redisPort: Number(redisPort), token });
  console.log(new URL(url).port);
  process.stdin.resume().on('end', () => process.exit(0));
}
