// criu, which writes the state of a container's processes and makes processes of it again. The OCI runtime calls it;
// here is only whether it is there.
import { access, constants, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CriError } from '../errors.ts';
import { defaultPath } from '../host/executables.ts';
import { run } from '../host/process.ts';

/** Since this one, criu can dump a container that shares namespaces with its pod. */
const [minMajor, minMinor] = [3, 16];
const versionMs = 10_000;

/**
 * The directory of a usable executable `criu`; `what` begins the sentence of a refusal.
 * @param configured the executable or its directory; undefined = on PATH
 * @throws CriError wrongState (FAILED_PRECONDITION) when there is none, or one that is too old or does not run here
 */
export async function requireCriu(configured: string | undefined, what: string): Promise<string> {
  const path = await findCriu(configured);
  if (path === undefined) {
    const where = configured ?? defaultPath;
    const advice = 'install it (apt-get install criu), 3.16 or newer';
    throw new CriError('wrongState', `${what}: criu binary not found in ${where}; ${advice}`);
  }
  const { exitCode, stdout, outcome } = await run(path, ['--version'], { timeoutMs: versionMs });
  const version = /Version:\s*(\d+)\.(\d+)/.exec(stdout);
  if (exitCode !== 0 || !version)
    throw new CriError('wrongState', `${what}: the version of criu cannot be told: ${outcome}`);
  const [major, minor] = [Number(version[1]), Number(version[2])];
  if (major < minMajor || (major === minMajor && minor < minMinor)) {
    const needed = `${minMajor}.${minMinor}`;
    throw new CriError(
      'wrongState',
      `${what}: criu ${needed} or newer is needed, ${path} is ${major}.${minor}`,
    );
  }
  return dirname(path);
}

async function findCriu(configured: string | undefined): Promise<string | undefined> {
  const candidates = configured === undefined ? defaultPath.split(':') : [configured, dirname(configured)];
  for (const directory of candidates) {
    const path = join(directory, 'criu');
    const isFile = (await stat(path).catch(() => undefined))?.isFile() ?? false;
    const runs = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isFile && runs) return path;
  }
  return undefined;
}
