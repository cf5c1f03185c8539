/** Finds the native addon. */

import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

import { StoreError } from './memory/errors.js';

/** The addon. Throws a StoreError if this platform has none, or if a bundler has left it behind. */
export function openAddon() {
  const failures = [];
  for (const find of [besideThisFile, inInstalledPackage, inWorkingFolder]) {
    try {
      return find();
    } catch (error) {
      failures.push(error.message.split('\n', 1)[0]);
    }
  }
  const { platform, arch } = process;
  throw new StoreError(
    `store error: shm:// and redis:// need the native addon of the package tidegate, which could not be loaded on ${platform}-${arch} ` +
      `(${failures.join('; ')}). If a bundler made this program, keep the package tidegate out of the bundle and install it ` +
      'beside the program (Next: serverExternalPackages). Where there is no addon, give a client of ioredis, node-redis or ' +
      'Upstash as the store.',
  );
}

// The path is made at run time, because bundlers fail on a binary that they see required. In a bundle
// that is an ES module there is no `__filename`.
function besideThisFile() {
  const here = typeof __filename === 'string' ? __filename : programFile();
  return createRequire(here)(['.', 'tidegate.node'].join('/'));
}

// For a program that was bundled with this file, and runs where the package is installed.
function inInstalledPackage() {
  return requireFrom(programFile());
}

// For a server that is started by a command of its framework, in the folder of the program.
function inWorkingFolder() {
  return requireFrom(join(process.cwd(), 'program.js'));
}

function requireFrom(file) {
  const require = createRequire(file);
  return require(join(dirname(require.resolve('tidegate/package.json')), 'dist', 'tidegate.node'));
}

function programFile() {
  return process.argv[1] ?? join(process.cwd(), 'program.js');
}
