/** Two builds live beside each other, each in the folder that the test names. */

import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url)); // where Next itself is installed

export default {
  distDir: process.env.DIST,
  outputFileTracingRoot: root,
  turbopack: { root },
  experimental: { turbopackMinify: false, turbopackSourceMaps: false },
  webpack(config) {
    config.optimization.minimize = false; // it would take most of the time of the build
    return config;
  },
};
