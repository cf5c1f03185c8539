/** A route of the Node runtime, with buckets in memory and a store that cannot be reached. */

import { StoreError, createLimiter } from 'tidegate';

const limiter = createLimiter({ limits: '2/d' });

export const dynamic = 'force-dynamic';

export async function GET() {
  const { remaining } = await limiter.check('node');
  let failure;
  try {
    await createLimiter({ limits: '1/s', store: 'redis://127.0.0.1:1' }).check('key');
  } catch (error) {
    failure = { isStoreError: error instanceof StoreError, code: error.code, message: error.message };
  }
  return Response.json({ remaining, failure });
}
