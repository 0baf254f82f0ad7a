// Bundles the program into few files, dist/bundle/, which bin/cri-ts runs: to find, read and link 700 modules one by one is
// a third of what starting the daemon costs, and to compile them a fifth (src/bundled.ts). Run by `npm run build`; dist/
// itself holds the modules, for tests and hack/.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { build, type Plugin } from 'esbuild';
import { heapFlags } from '../src/image/worker-entry.ts';

const outdir = 'dist/bundle';

/** Of zod's error messages in fifty languages, those that are used. */
const oneLanguage: Plugin = {
  name: 'one language',
  setup({ onLoad }) {
    onLoad({ filter: /zod\/v4\/locales\/index\.js$/ }, ({ path }) => ({
      contents: "export { default as en } from './en.js'",
      resolveDir: dirname(path),
    }));
  },
};

// Paths beside it stay right: proto/ and package.json are two directories up, as they are from src/ and dist/.
rmSync(outdir, { recursive: true, force: true });
await build({
  entryPoints: { main: 'src/cli/main.ts', worker: 'src/image/worker.ts', thread: 'src/host/thread.ts' },
  outdir,
  bundle: true,
  format: 'cjs',
  platform: 'node',
  target: 'node20',
  // Native code; and what is loaded only when it is configured.
  external: ['koffi', 'lmdb', 'prom-client', '@opentelemetry/*'],
  plugins: [oneLanguage],
  // V8 keeps the source; one that is ASCII throughout takes a byte a character. Names stay, for whoever reads a stack trace.
  minifyWhitespace: true,
  minifySyntax: true,
  charset: 'ascii',
  supported: { 'dynamic-import': false },
  define: { 'import.meta.url': 'bundleUrl' },
  banner: {
    js: "(function (exports, require, module, __filename, __dirname) { const bundleUrl = require('node:url').pathToFileURL(__filename).href;",
  },
  footer: { js: '})' },
});

/** Gives a file of the bundle a name that tells its content, which compiled code is only good for, and one to run it by. */
function finish(name: string): void {
  const built = join(outdir, `${name}.js`);
  const digest = createHash('sha256').update(readFileSync(built)).digest('hex').slice(0, 16);
  const file = `${name}-${digest}.cjs`;
  renameSync(built, join(outdir, file));
  const lines = [
    "import { fileURLToPath } from 'node:url';",
    "import { runBundled } from '../bundled.js';",
    `runBundled(fileURLToPath(new URL('./${file}', import.meta.url)));`,
  ];
  writeFileSync(built, `${lines.join('\n')}\n`);
}
for (const name of ['main', 'worker', 'thread']) finish(name);

// V8 takes compiled code only where its own flags are the same: so these are run as they will be.
const env = { ...process.env, CRI_TS_WRITE_COMPILED: '1', NODE_OPTIONS: '' };
execFileSync('bin/cri-ts', ['serve', '--help'], { env, stdio: 'ignore' });
execFileSync(process.execPath, [...heapFlags, join(outdir, 'worker.js')], { env, stdio: 'ignore' });
