/**
 * Packs both packages with npm and unpacks them to projects/node_modules, as their users install them.
 * The packed files are left in projects/node_modules/.packed.
 */

import { execFileSync } from 'node:child_process';
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const INSTALLED = fileURLToPath(new URL('projects/node_modules', import.meta.url));
const PACKAGES = { tidegate: 'bindings-node', 'tidegate-wasm': 'bindings-wasm/js' };

rmSync(INSTALLED, { recursive: true, force: true });
const packed = join(INSTALLED, '.packed');
mkdirSync(packed, { recursive: true });
for (const [name, source] of Object.entries(PACKAGES)) {
  const pack = ['pack', '--ignore-scripts', '--silent', '--pack-destination', packed];
  const made = execFileSync('npm', pack, { cwd: join(ROOT, source), encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  const file = join(packed, `${name}.tgz`);
  renameSync(join(packed, made.trim()), file);
  const target = join(INSTALLED, name);
  mkdirSync(target, { recursive: true });
  execFileSync('tar', ['-xzf', file, '-C', target, '--strip-components', '1']);
}
