import { configDefaults, defineConfig } from 'vitest/config';

// Tests for inside hack/vm: of the installed service, on a node of their own. Emulated machines are slow: nothing here waits
// for less than minutes before it gives up, and files share what they import.
export default defineConfig({
  test: {
    include: ['test/{vm,integration}/**/*.test.ts'],
    // There is no containerd in there, and no packages of nginx.
    exclude: [...configDefaults.exclude, '**/image-{beside-containerd,nginx}.test.ts'],
    fileParallelism: false,
    isolate: false,
    testTimeout: 600_000,
    hookTimeout: 600_000,
  },
});
