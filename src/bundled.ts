// Runs a file of the bundle (hack/bundle.ts) together with what V8 has compiled of it when it was built: to compile the
// program anew is a fifth of what a start costs. Node 20 can keep compiled code for scripts, not for ES modules, so the
// bundle's files are scripts. Code that V8 refuses, because another version of Node made it, is compiled as ever.
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { Script } from 'node:vm';

/** Set by the build: what was compiled is written beside the file when the process ends. */
const writeVariable = 'CRI_TS_WRITE_COMPILED';

/** @param file of the bundle: a function expression in ASCII that takes what CommonJS gives to a module */
export function runBundled(file: string): void {
  const compiled = `${file}.compiled`;
  const writes = process.env[writeVariable] !== undefined;
  const cachedData = writes ? undefined : readIfThere(compiled);
  const script = new Script(readFileSync(file, 'latin1'), {
    filename: file,
    ...(cachedData ? { cachedData } : {}),
  });
  if (writes) process.once('exit', () => writeFileSync(compiled, script.createCachedData()));
  const module = { exports: {} };
  script.runInThisContext()(module.exports, createRequire(file), module, file, dirname(file));
}

function readIfThere(file: string): Buffer | undefined {
  try {
    return readFileSync(file);
  } catch {
    return undefined;
  }
}
