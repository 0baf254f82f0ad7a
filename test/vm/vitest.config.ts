import { configDefaults, defineConfig } from 'vitest/config';

// Tests for inside hack/vm: of the installed service, on a node of their own. Emulated machines are slow: nothing here waits
// for less than minutes before it gives up, and files share what they import.
export default defineConfig({
  test: {
    include: ['test/{vm,integration}/**/*.test.ts'],
    exclude: [...configDefaults.exclude, '**/image-beside-containerd.test.ts'], // there is no containerd in there
    fileParallelism: false,
    isolate: false,
    testTimeout: 600_000,
    hookTimeout: 600_000,
  },
});
