// Bundles the program into few files, dist/bundle/, which bin/cri-ts runs: to find, read and link 700 modules one by one is
// a third of what starting the daemon costs. Run by `npm run build`; dist/ itself holds the modules, for tests and hack/.
import { rmSync } from 'node:fs';
import { build } from 'esbuild';

const outdir = 'dist/bundle';
// Paths beside it stay right: proto/ and package.json are two directories up, as they are from src/ and dist/.
rmSync(outdir, { recursive: true, force: true });
await build({
  entryPoints: { main: 'src/cli/main.ts', thread: 'src/host/thread.ts', worker: 'src/image/worker.ts' },
  outdir,
  bundle: true,
  splitting: true, // commands, thread and worker share what they share, and load no more than they need
  format: 'esm',
  platform: 'node',
  target: 'node20',
  // Native code; and what is loaded only when it is configured.
  external: ['koffi', 'lmdb', 'prom-client', '@opentelemetry/*'],
  // CommonJS packages in the bundle require Node's own modules.
  banner: {
    js: "import { createRequire as requireOf } from 'node:module'; const require = requireOf(import.meta.url);",
  },
});
