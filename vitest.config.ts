import { defineConfig } from 'vitest/config';

// Unit tests run side by side; integration tests share the machine's kernel and take turns. The bounds are for tests that
// hang: a slow and busy machine must not meet them.
export default defineConfig({
  test: {
    projects: [
      { test: { name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 120_000, hookTimeout: 120_000 } },
      {
        test: {
          name: 'integration',
          include: ['test/{integration,faults,hard-way}/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
});
