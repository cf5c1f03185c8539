/** A route of the edge runtime. */

import { createLimiter } from 'tidegate-wasm';

const limiter = createLimiter({ limits: '2/d' });

export const runtime = 'edge';

export async function GET() {
  const { remaining } = await limiter.check('edge');
  return Response.json({ remaining });
}
