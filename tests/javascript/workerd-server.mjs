/** A real workerd that runs the worker of projects/workerd, bundled as wrangler does it. */

import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

import { freePort, until } from '../../bindings-node/test/redis-server.mjs';

// Only a request that hangs reaches it.
const ANSWERED_WITHIN_MS = 20_000;
const WORKER = fileURLToPath(new URL('projects/workerd/worker.js', import.meta.url));
const { default: WORKERD } = createRequire(import.meta.url)('workerd');

export class Workerd {
  #folder = mkdtempSync(join(tmpdir(), 'tidegate-workerd-'));
  #process;
  #output = '';

  /**
   * Starts the worker, under the rules that the runtime had on the given date; its requests to other hosts go to
   * `outbound`, an address on this host.
   */
  static async start(outbound, compatibilityDate) {
    const workerd = new Workerd();
    await workerd.#start(outbound, compatibilityDate);
    return workerd;
  }

  /** What the runtime has printed: its complaints about code that hangs, among others. */
  get output() {
    return this.#output;
  }

  /** Requests a path of the worker, and gives the status and the JSON of the answer. */
  async get(path, { signal = AbortSignal.timeout(ANSWERED_WITHIN_MS) } = {}) {
    const response = await fetch(`http://127.0.0.1:${this.port}${path}`, { signal });
    const text = await response.text();
    return { status: response.status, body: text.startsWith('{') || text.startsWith('[') ? JSON.parse(text) : text };
  }

  async stop() {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const exited = new Promise((resolve) => this.#process.once('exit', resolve));
      this.#process.kill('SIGKILL');
      await exited;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #start(outbound, compatibilityDate) {
    await build({
      entryPoints: [WORKER],
      outdir: this.#folder,
      bundle: true,
      format: 'esm',
      conditions: ['workerd', 'worker', 'browser'],
      loader: { '.wasm': 'copy' },
      logLevel: 'error',
    });
    const modules = readdirSync(this.#folder).filter((name) => name.endsWith('.wasm'));
    this.port = await freePort();
    const config = `using Workerd = import "/workerd/workerd.capnp";
      const config :Workerd.Config = (
        services = [(name = "main", worker = .worker), (name = "outbound", external = (address = "${outbound}", http = ()))],
        sockets = [(name = "http", address = "127.0.0.1:${this.port}", http = (), service = "main")],
      );
      const worker :Workerd.Worker = (
        modules = [
          (name = "worker.js", esModule = embed "worker.js"),
          ${modules.map((name) => `(name = "${name}", wasm = embed "${name}")`).join(', ')},
        ],
        compatibilityDate = "${compatibilityDate}",
        globalOutbound = "outbound",
      );`;
    const file = join(this.#folder, 'config.capnp');
    writeFileSync(file, config);
    this.#process = spawn(WORKERD, ['serve', file], { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream.on('data', (data) => { this.#output += data; });
    }
    await until('workerd answers', async () => {
      if (this.#process.exitCode !== null) throw new Error(this.#output);
      return this.get('/memory/check').then(({ status }) => status === 200, () => false);
    });
  }
}
