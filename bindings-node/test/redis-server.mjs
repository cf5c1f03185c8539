/** A Redis for one test file, on a free port of this host. */

import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const READY_WITHIN_MS = 10_000;

export class RedisServer {
  #folder = mkdtempSync(join(tmpdir(), 'tidegate-redis-'));
  #process;

  #options;

  constructor(...options) {
    this.#options = options;
  }

  static async start(...options) {
    const server = new RedisServer(...options);
    server.port = await freePort();
    await server.start();
    return server;
  }

  get url() {
    return `redis://127.0.0.1:${this.port}`;
  }

  async start() {
    const options = ['--port', String(this.port), '--bind', '127.0.0.1', '--dir', this.#folder];
    options.push('--save', '', '--appendonly', 'no', ...this.#options);
    this.#process = spawn('redis-server', options, { stdio: 'ignore' });
    this.#process.on('error', (error) => { this.failure = error; });
    await until(`redis-server answers on port ${this.port}`, () => {
      if (this.failure) throw this.failure;
      return answers(this.port);
    });
  }

  /** Runs one command with redis-cli and returns what it prints. */
  run(...command) {
    const options = ['-h', '127.0.0.1', '-p', String(this.port)];
    return execFileSync('redis-cli', [...options, ...command], { encoding: 'utf8' }).trim();
  }

  /** Kills the server, as a crash would. */
  async kill() {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exited = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#process.kill('SIGKILL');
    await exited;
  }

  /** Stops the server's process: connections stay open, but nothing is answered until `resume`. */
  freeze() {
    this.#process.kill('SIGSTOP');
  }

  resume() {
    this.#process.kill('SIGCONT');
  }

  async remove() {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** A cluster of three servers that share the keys, without replicas. */
export class RedisCluster {
  #servers = [];

  static async start() {
    const cluster = new RedisCluster();
    for (let number = 0; number < 3; number++) {
      const bus = String(await freePort());
      cluster.#servers.push(await RedisServer.start('--cluster-enabled', 'yes', '--cluster-port', bus));
    }
    const addresses = cluster.ports.map((port) => `127.0.0.1:${port}`);
    execFileSync('redis-cli', ['--cluster', 'create', ...addresses, '--cluster-yes'], { stdio: 'ignore' });
    await until('the cluster is ready', () => {
      return cluster.#servers.every((server) => server.run('CLUSTER', 'INFO').startsWith('cluster_state:ok'));
    });
    return cluster;
  }

  get ports() {
    return this.#servers.map(({ port }) => port);
  }

  async remove() {
    await Promise.all(this.#servers.map((server) => server.remove()));
  }
}

/** Polls until `condition` holds, and fails after a deadline. */
export async function until(what, condition, within = READY_WITHIN_MS) {
  const deadline = performance.now() + within;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${within} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function answers(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'));
    const finish = (ready) => {
      socket.destroy();
      resolve(ready);
    };
    socket.once('data', (data) => finish(data.toString().startsWith('+PONG')));
    socket.once('error', () => finish(false));
    socket.setTimeout(1000, () => finish(false));
  });
}
