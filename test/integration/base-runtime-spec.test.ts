// A runtime handler with a base_runtime_spec, under the real runc; and the daemon's log as text.
import { chmodSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execaSync } from 'execa';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startNode, type TestNode } from '../support/node.ts';

let node: TestNode;
beforeAll(async () => {
  node = await startNode({
    config: ({ directory }) => {
      const file = join(directory, 'base.json');
      // The file that an administrator would begin with.
      execaSync('runc', ['spec'], { cwd: directory });
      const spec = JSON.parse(execaSync('cat', [join(directory, 'config.json')]).stdout);
      spec.process.rlimits = [{ type: 'RLIMIT_NOFILE', soft: 100, hard: 200 }];
      spec.process.env.push('SITE=from-the-file');
      const hook = join(directory, 'hook');
      writeFileSync(hook, `#!/bin/sh\ncat > ${directory}/hook-ran\n`);
      chmodSync(hook, 0o755);
      spec.hooks = { createRuntime: [{ path: hook }] };
      writeFileSync(file, JSON.stringify(spec));
      return `debug.format = "text"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.based]
        base_runtime_spec = "${file}"`;
    },
  });
});
afterAll(() => node.destroy());

it('what the file of runc itself says holds in containers of that handler, and in no others', async () => {
  const script = 'ulimit -n; ulimit -Hn; echo $SITE; hostname';
  const based = await node.runPod({ hostname: 'of-the-pod' }, 'based');
  expect(existsSync(join(node.directory, 'hook-ran'))).toBe(false);
  expect((await node.output(based, script)).lines).toEqual(['100', '200', 'from-the-file', 'of-the-pod']);
  expect(existsSync(join(node.directory, 'hook-ran'))).toBe(true);
  const plain = await node.runPod();
  const { lines } = await node.output(plain, script);
  expect(lines[0]).not.toBe('100');
  expect(lines).not.toContain('from-the-file');
});

it('the log is text', async () => {
  const line = (await node.log()).split('\n').find(one => one.includes('cri-ts serves'));
  expect(line).toMatch(/^time=\S+ level=info msg="cri-ts serves" .*socket=/);
});
