/** The examples for Kubernetes fit the types of their kinds, to the last field. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';

import { loadAll } from 'js-yaml';

const EXAMPLES = new URL('../../examples/', import.meta.url);
const HERE = fileURLToPath(new URL('.', import.meta.url));
const TYPESCRIPT = fileURLToPath(new URL('node_modules/typescript/bin/tsc', import.meta.url));

const MODULES = {
  WasmPlugin: '@kubernetes-models/istio/extensions.istio.io/v1alpha1/WasmPlugin',
  EnvoyFilter: '@kubernetes-models/istio/networking.istio.io/v1alpha3/EnvoyFilter',
  EnvoyExtensionPolicy: '@kubernetes-models/envoy-gateway/gateway.envoyproxy.io/v1alpha1/EnvoyExtensionPolicy',
  Service: 'kubernetes-models/v1/Service',
};

/** The compiler's complaints about these objects. It refuses fields that a type does not have. */
function complaints(objects) {
  const folder = mkdtempSync(`${HERE}.examples-`);
  try {
    const lines = objects.map((object, at) => {
      const module = MODULES[object.kind];
      assert.ok(module, `no type for the kind ${object.kind}`);
      return `import type { I${object.kind} as Kind${at} } from '${module}';
        export const object${at}: Kind${at} = ${JSON.stringify(object)};`;
    });
    writeFileSync(`${folder}/examples.ts`, lines.join('\n'));
    const options = ['--noEmit', '--strict', '--skipLibCheck', '--target', 'es2022', '--module', 'nodenext'];
    return spawnSync(process.execPath, [TYPESCRIPT, ...options, `${folder}/examples.ts`], { encoding: 'utf8' }).stdout;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

for (const path of ['istio/wasm-plugin.yaml', 'istio/envoy-filter.yaml', 'envoy-gateway/extension-policy.yaml']) {
  test(`examples/${path} has no field that its kind does not have`, () => {
    const objects = loadAll(readFileSync(new URL(path, EXAMPLES), 'utf8'));
    assert.ok(objects.length > 0);
    assert.equal(complaints(objects), '');
  });
}

test('a field that the kind does not have is found', () => {
  const [plugin] = loadAll(readFileSync(new URL('istio/wasm-plugin.yaml', EXAMPLES), 'utf8'));
  plugin.spec.pluginConfiguration = {};
  assert.match(complaints([plugin]), /pluginConfiguration.* does not exist/);
});
