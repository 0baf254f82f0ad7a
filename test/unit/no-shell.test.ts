// No process of the daemon's is started through a shell: what a pod spec or an image says could then be read as commands.
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const source = fileURLToPath(new URL('../../src/', import.meta.url));
const files = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.ts'));
const textOf = (file: string) => readFileSync(`${source}${file}`, 'utf8');
const code = (file: string) => textOf(file).replaceAll(/^\s*(\/\/|\*|\/\*).*$/gm, '');
const filesWith = (pattern: RegExp) => files.filter(file => pattern.test(code(file))).sort();

describe('the source', () => {
  it('starts processes in few places, and only by calls that take a list of arguments', () => {
    const imports = files.flatMap(file =>
      [...code(file).matchAll(/import\s+([^;]+?)\s+from 'node:child_process'/g)].map(
        ([, names = '']) => [file, names.replaceAll(/\s+/g, ' ')] as const,
      ),
    );
    const started = imports.map(([file, names]) => [
      file,
      names
        .replaceAll(/^type .*|[{}]|type \w+/g, '')
        .split(',')
        .map(name => name.trim())
        .filter(Boolean),
    ]);
    expect(Object.fromEntries(started)).toEqual({
      'host/userns.ts': ['spawn'],
      'image/decompress.ts': ['spawn'],
      'image/pool.ts': [],
      'image/worker-entry.ts': ['fork'],
    });
    expect(filesWith(/posixSpawn\b/)).toEqual(['host/libc.ts', 'host/spawn.ts']);
    expect(filesWith(/child_process/)).toEqual(imports.map(([file]) => file).sort());
    // bundled.ts runs the program itself, as the build has bundled it.
    expect(filesWith(/from 'execa'|node:vm'|\beval\(|new Function\(/)).toEqual(['bundled.ts']);
  });

  it('asks for no shell and names none', () => {
    expect(filesWith(/\bshell\s*:/)).toEqual([]);
    expect(filesWith(/['"`](\/bin\/|\/usr\/bin\/)?(ba|da|a)?sh['"`]/)).toEqual([]);
    expect(code('host/libc.ts')).not.toMatch(/\b(system|popen|exec\w*|posix_spawnp|v?fork)\s*\(/);
  });
});
