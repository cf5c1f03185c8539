/** A program for Node, to be bundled together with the package. */

import { StoreError, createLimiter } from 'tidegate';
import { createLimiter as createSmall } from 'tidegate-wasm/memory';

async function main() {
  const { remaining } = await createLimiter({ limits: '2/d' }).check('key');
  let failure;
  try {
    await createLimiter({ limits: '1/s', store: 'redis://127.0.0.1:1' }).check('key');
  } catch (error) {
    failure = { isStoreError: error instanceof StoreError, code: error.code, message: error.message };
  }
  const small = createSmall({ limits: '2/d' }).checkSync('key').remaining;
  console.log(JSON.stringify({ remaining, small, failure }));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
