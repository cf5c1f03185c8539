/** Vitest runs the suite that is named after it. */

export default { test: { include: ['suite.vitest.mjs'] } };
