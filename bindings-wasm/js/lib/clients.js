/** How the clients that a program may bring are recognised, called and answered. */

import { invalid } from './arguments.js';

const decoder = new TextDecoder();
const strict = new TextDecoder('utf-8', { fatal: true });
const encoder = new TextEncoder();
// `Decoder.Bytes` of Valkey GLIDE, under which replies are bytes.
const GLIDE_BYTES = 0;
const NOT_ASCII = /[\u0080-\uffff]/;

/**
 * A function that sends one command over a client, and promises the reply. The command is given by
 * its words, each a string or bytes. Commands that are sent in one turn go in one message.
 *
 * Clients are recognised by their methods: those of ioredis, of node-redis, of Valkey GLIDE and of
 * Upstash, and clients like them.
 */
export function senderOf(client) {
  if (typeof client?.callBuffer === 'function') return sendAsIoredis.bind(undefined, client);
  if (typeof client?.sendCommand === 'function') return sendAsNodeRedis.bind(undefined, client);
  if (isGlide(client)) return sendAsGlide.bind(undefined, client);
  if (typeof client?.evalsha === 'function') return sendAsUpstash.bind(undefined, client);
  throw invalid('store', 'it must be a URL, or a client of ioredis, node-redis, Valkey GLIDE or Upstash');
}

/** Whether the client sends commands as JSON, which can express bytes only if they are a text. */
export function isTextOnly(client) {
  return typeof client.callBuffer !== 'function' && typeof client.sendCommand !== 'function' && !isGlide(client);
}

/** Refuses a key that is not text, for a client that sends only text. */
export function checkIsText(key) {
  if (typeof key === 'string') return;
  try {
    strict.decode(key);
  } catch {
    throw invalid('key', 'it must be text: over the REST API no other bytes can be sent');
  }
}

/** Where the client connects to, for the log: host and port, or undefined if it does not say so. */
export function placeOf({ options }) {
  const { host, port = 6379, path } = { ...options, ...options?.socket };
  if (typeof path === 'string') return path;
  return typeof host === 'string' ? `${host}:${port}` : undefined;
}

/** Whether the client is for a cluster, where calls for different keys go to different servers. */
export function isCluster(client) {
  // Only the cluster client of GLIDE has the commands for a shard.
  return client.isCluster === true || 'masters' in client || (isGlide(client) && 'ssubscribe' in client);
}

/** The parts of a script's answer: the bytes of all, and the length of each; -1 where there is no value. */
export function partsOf(reply) {
  const lengths = new Int32Array(reply.length);
  const parts = [];
  for (let place = 0; place < reply.length; place++) {
    const part = bytesOf(reply[place]);
    lengths[place] = part === undefined ? -1 : part.length;
    if (part !== undefined) parts.push(part);
  }
  return { bytes: joined(parts), lengths };
}

/**
 * The words of `count` commands. `lengths` has for each command the number of its words, then the
 * length of each in `bytes`. They are strings if all are ASCII, which clients send fastest, or else
 * bytes.
 */
export function commandsOf(bytes, lengths, count) {
  const text = decoder.decode(bytes);
  // A copy: commands that are sent later must not change with the engine's memory.
  const all = NOT_ASCII.test(text) ? bytes.slice() : text;
  const commands = [];
  let [at, place] = [0, 0];
  while (commands.length < count) {
    const [command, end] = [[], place + lengths[place]];
    while (place < end) {
      place += 1;
      command.push(all.slice(at, at + lengths[place]));
      at += lengths[place];
    }
    commands.push(command);
    place += 1;
  }
  return commands;
}

export function joined(pieces) {
  let length = 0;
  for (const piece of pieces) length += piece.length;
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** The server's error in a client's error, its code first; undefined if there is none that matters. */
export function refusalOf(error) {
  // Valkey GLIDE writes `NoScriptError: …` for `NOSCRIPT …`, and a colon after other codes.
  const [, code, text] = /\b(NOSCRIPT|NoScriptError|CORRUPT|CLOCK):? (.*)/s.exec(messageOf(error)) ?? [];
  return code && `${code === 'NoScriptError' ? 'NOSCRIPT' : code} ${text}`;
}

/** The message of a client's error. Upstash appends the command, whose script and keys nobody should read in a log. */
export function messageOf(error) {
  const [said] = String(error?.message).split(', command was: ', 1);
  return said;
}

export function isTimeout(error) {
  return /timeout|timed out/i.test(`${error?.name} ${error?.constructor?.name} ${error?.message}`);
}

function sendAsIoredis(client, [word, ...rest]) {
  // The client looks names up in lower case.
  const name = textOf(word).toLowerCase();
  const words = rest.map(argumentOf);
  // Under `enableAutoPipelining`, callBuffer loses the name of the command, and a cluster's client may
  // route a script by its hash. The function of a built-in command is not pipelined automatically;
  // there is no need, because these commands are sent in batches already.
  if (typeof client.createBuiltinCommand !== 'function') return client.callBuffer(name, ...words);
  return builtinOf(client, name).call(client, ...words);
}

// The functions that send built-in commands and answer with bytes, by client and name.
const builtins = new WeakMap();

function builtinOf(client, name) {
  const own = builtins.get(client) ?? new Map();
  builtins.set(client, own);
  if (!own.has(name)) own.set(name, client.createBuiltinCommand(name).buffer);
  return own.get(name);
}

function sendAsNodeRedis(client, [name, script, ...rest]) {
  const command = [textOf(name), textOf(script), ...rest.map(argumentOf)];
  if (!isCluster(client)) return client.sendCommand(command);
  const [, , , firstKey] = command;
  return client.sendCommand(firstKey, false, command);
}

function isGlide(client) {
  return typeof client?.customCommand === 'function';
}

function sendAsGlide(client, words) {
  return client.customCommand(words.map(argumentOf), { decoder: GLIDE_BYTES });
}

function sendAsUpstash(client, words) {
  const [name, script, count, ...rest] = words.map(textOf);
  const [keys, values] = [rest.slice(0, Number(count)), rest.slice(Number(count))];
  return name === 'EVAL' ? client.eval(script, keys, values) : client.evalsha(script, keys, values);
}

function textOf(word) {
  return typeof word === 'string' ? word : decoder.decode(word);
}

function argumentOf(word) {
  return typeof word === 'string' ? word : Buffer.from(word.buffer, word.byteOffset, word.length);
}

// Some clients turn texts that look like a number or an object into one. No bucket looks like an object.
function bytesOf(value) {
  if (value === null || value === undefined) return undefined;
  if (value instanceof Uint8Array) return value;
  return encoder.encode(String(value));
}
