import { defineConfig } from 'vitest/config';

// Tests for inside hack/vm: of the installed service, on a node of their own. Emulated machines are slow: nothing here waits
// for less than minutes before it gives up.
export default defineConfig({
  test: {
    include: ['test/vm/**/*.test.ts'],
    fileParallelism: false,
    testTimeout: 600_000,
    hookTimeout: 600_000,
  },
});
