// ExecSync: commands in running containers; what they say, how they end, and what is left of them.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { status as grpc } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cgroupFile, inspect, secured } from '../support/containers.ts';
import { failureOf } from '../support/cri-client.ts';
import { startNode, type TestNode, until } from '../support/node.ts';

let node: TestNode;
let pod: string;
let containerId: string;
beforeAll(async () => {
  node = await startNode({
    config: "[plugins.'io.containerd.cri.v1.runtime']\n  drain_exec_sync_io_timeout = '2s'\n",
  });
  pod = await node.runPod();
  containerId = await node.runContainer(pod, 'exec sleep 1000');
});
afterAll(() => node.destroy());

const exec = async (script: string, timeout = 60, id = containerId) => {
  const { stdout, stderr, exitCode } = await node.cri.ExecSync({
    containerId: id,
    cmd: ['sh', '-c', script],
    timeout,
  });
  return { stdout: Buffer.from(stdout).toString(), stderr: Buffer.from(stderr).toString(), exitCode };
};
/** Command lines of what runs in the container. */
const commands = async (id = containerId) => {
  const { pid } = await inspect(node, id);
  return cgroupFile(pid, 'memory', 'cgroup.procs')
    .split('\n')
    .flatMap(process => {
      try {
        return [readFileSync(`/proc/${process}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()];
      } catch {
        return []; // it ended meanwhile
      }
    })
    .filter(command => command !== '');
};
const alone = async (id = containerId) =>
  until('nothing but the first process is left', async () => (await commands(id)).length === 1 || undefined);

describe('ExecSync', () => {
  it('returns both streams apart, and the exit code', async () => {
    expect(await exec('echo out; echo error >&2; exit 42')).toEqual({
      stdout: 'out\n',
      stderr: 'error\n',
      exitCode: 42,
    });
    expect(await exec('true')).toEqual({ stdout: '', stderr: '', exitCode: 0 });
  });

  it.each([
    ['SIGKILL', 'kill -KILL $$', 137],
    ['SIGSEGV', 'kill -SEGV $$', 139],
  ])('reports the death by %s', async (_, script, exitCode) => {
    expect((await exec(script)).exitCode).toBe(exitCode);
  });

  it('returns bytes as they are', async () => {
    const { stdout } = await node.cri.ExecSync({ containerId, cmd: ['printf', '\\000\\377\\n\\200'] });
    expect([...Buffer.from(stdout)]).toEqual([0, 255, 10, 128]);
  });

  it('passes arguments as they are', async () => {
    const cmd = ['sh', '-c', 'for a; do echo "[$a]"; done', 'sh', 'two words', '"quoted"', '$HOME', ''];
    const { stdout } = await node.cri.ExecSync({ containerId, cmd });
    expect(Buffer.from(stdout).toString()).toBe('[two words]\n["quoted"]\n[$HOME]\n[]\n');
  });

  it('runs without a bound when no timeout is given', async () => {
    expect((await exec('sleep 1.2; echo late', 0)).stdout).toBe('late\n');
  });

  it('lets the command open its output by name', async () => {
    const result = await exec('echo out > /dev/stdout; echo error > /dev/stderr');
    expect(result).toEqual({ stdout: 'out\n', stderr: 'error\n', exitCode: 0 });
  });

  it('gives the command nothing to read', async () => {
    expect((await exec('cat; echo end')).stdout).toBe('end\n');
  });

  it('returns four megabytes whole', async () => {
    const { stdout, exitCode } = await node.cri.ExecSync({
      containerId,
      cmd: ['sh', '-c', 'head -c 4194304 /dev/zero | tr "\\0" x; printf "%s" end'],
    });
    expect(exitCode).toBe(0);
    expect(stdout.length).toBe(4_194_304 + 3);
    expect(Buffer.from(stdout).subarray(-4).toString()).toBe('xend');
  });

  it.each([
    ['one stream', 'head -c 20000000 /dev/zero; exit 3'],
    ['both streams', 'head -c 9000000 /dev/zero; head -c 9000000 /dev/zero >&2; exit 3'],
  ])('drops what is beyond sixteen megabytes of %s, and lets the command end', async (_, script) => {
    const { stdout, stderr, exitCode } = await node.cri.ExecSync({
      containerId,
      cmd: ['sh', '-c', script],
    });
    expect(exitCode).toBe(3);
    expect(stdout.length + stderr.length).toBe(16 * 1024 * 1024 - 1024);
    await alone();
  });

  it('drops what is beyond the largest answer that is configured', async () => {
    const other = await startNode({ config: '[grpc]\n  max_send_message_size = 100000\n' });
    const id = await other.runContainer(await other.runPod(), 'exec sleep 1000');
    const script = 'head -c 200000 /dev/zero; exit 3';
    const { stdout, exitCode } = await other.cri.ExecSync({ containerId: id, cmd: ['sh', '-c', script] });
    expect([stdout.length, exitCode]).toEqual([100_000 - 1024, 3]);
    await other.destroy();
  });

  it('runs twenty commands at once', async () => {
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, i) => exec(`echo ${i}; sleep 0.2; echo e${i} >&2; exit ${i}`)),
    );
    expect(results).toEqual(
      Array.from({ length: 20 }, (_, i) => ({ stdout: `${i}\n`, stderr: `e${i}\n`, exitCode: i })),
    );
  });

  it('leaves no file behind in the bundle, and no zombie', async () => {
    await exec('true');
    const bundle = `${node.state}/containers/${containerId}`;
    expect(readdirSync(bundle).filter(name => name.startsWith('exec-'))).toEqual([]);
    await until('the daemon has no zombie', () => zombiesOf(node.pid()).length === 0 || undefined);
  });
});

/** Children of a process that ended and were not reaped. */
function zombiesOf(parent: number): string[] {
  const children = readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').split(' ').filter(Boolean);
  return children.filter(pid => {
    try {
      return /\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
    } catch {
      return false;
    }
  });
}

describe('a command that takes too long', () => {
  it('is killed, and the status is DEADLINE_EXCEEDED', async () => {
    const { code, details } = await failureOf(exec('echo begun; sleep 1000', 1));
    expect(code).toBe(grpc.DEADLINE_EXCEEDED);
    expect(details).toContain(containerId);
    expect(details).toContain('timed out');
    await alone();
  });

  it('is killed with its children', async () => {
    await failureOf(exec('sleep 2001 & sleep 2002 & (sleep 2003; sleep 2004) & sleep 2005', 1));
    await alone();
  });

  it('is killed with children that made themselves leaders of sessions', async () => {
    await failureOf(exec('setsid sleep 2001 & setsid sh -c "sleep 2002; sleep 2003" & sleep 2005', 1));
    await alone();
  });

  it('is killed with children whose parents have gone', async () => {
    await failureOf(exec('(sleep 2001 & sleep 2002 &) ; sleep 2005', 1));
    await alone();
  });

  it('is killed when it ignores signals', async () => {
    await failureOf(exec('trap "" TERM INT HUP; while :; do sleep 0.1; done', 1));
    await alone();
  });

  it('is killed with its children in a container with a PID namespace of its own', async () => {
    const id = await node.runContainer(
      pod,
      'exec sleep 1000',
      secured({ namespaceOptions: { pid: 'CONTAINER' } }),
    );
    await failureOf(exec('setsid sleep 2001 & sleep 2002 & sleep 2003', 1, id));
    await alone(id);
    expect((await node.status(id)).state).toBe('CONTAINER_RUNNING');
  });

  it('is killed when its caller goes away', async () => {
    const cmd = ['sh', '-c', 'sleep 2001 & sleep 2002'];
    const call = node.cri.ExecSync({ containerId, cmd }, { timeoutMs: 1000 });
    expect((await failureOf(call)).code).toBe(grpc.DEADLINE_EXCEEDED);
    await alone();
  });
});

describe('a command that leaves a child behind', () => {
  it('is answered when the child has closed its output, and the child lives on', async () => {
    const { stdout, exitCode } = await exec('sleep 3001 > /dev/null 2>&1 & echo $!');
    expect(exitCode).toBe(0);
    expect(await commands()).toContain('sleep 3001');
    await exec(`kill ${stdout}`);
    await alone();
  });

  it('is answered after a while when the child holds its output, and the child lives on', async () => {
    const { stdout, exitCode } = await exec('sleep 3002 & echo $!');
    expect(exitCode).toBe(0);
    expect(await commands()).toContain('sleep 3002');
    await exec(`kill ${stdout}`);
    await alone();
  });
});

describe('a container of a node without a bound for held output', () => {
  it('has its commands answered at the timeout, or given up with the caller', async () => {
    const other = await startNode();
    const id = await other.runContainer(await other.runPod(), 'exec sleep 1000');
    const cmd = ['sh', '-c', 'sleep 4001 & echo started'];
    const { stdout, exitCode } = await other.cri.ExecSync({ containerId: id, cmd, timeout: 5 });
    expect([Buffer.from(stdout).toString(), exitCode]).toEqual(['started\n', 0]);
    const call = other.cri.ExecSync({ containerId: id, cmd }, { timeoutMs: 500 });
    expect((await failureOf(call)).code).toBe(grpc.DEADLINE_EXCEEDED);
    await until(
      'the daemon has given up',
      async () => /rpc.*ExecSync.*CANCELLED/.test(await other.log()) || undefined,
    );
    await other.destroy();
  });
});

describe('the command’s process', () => {
  it('has the user, environment, directory, capabilities and limits of the container', async () => {
    const config = {
      workingDir: '/var/www',
      envs: [{ key: 'OWN', value: Buffer.from('value') }],
      linux: {
        securityContext: {
          runAsUser: { value: 1234 },
          noNewPrivs: true,
          capabilities: { dropCapabilities: ['ALL'], addCapabilities: ['CHOWN'] },
          seccomp: { profileType: 'RuntimeDefault' as const },
        },
      },
    };
    const id = await node.runContainer(pod, 'exec sleep 1000', config);
    const facts = 'id; pwd; echo $OWN; grep -E "Cap|NoNewPrivs|Seccomp:" /proc/self/status; ulimit -a';
    const inContainer = (await node.output(pod, facts, config)).lines;
    expect((await exec(facts, 60, id)).stdout.trim().split('\n')).toEqual(inContainer);
    expect(inContainer).toContain('NoNewPrivs:\t1');
    expect(inContainer).toContain('Seccomp:\t2');
    expect(inContainer).toContain('CapBnd:\t0000000000000001');
  });

  it('is in the namespaces and cgroups of the container', async () => {
    const { pid } = await inspect(node, containerId);
    const namespace = (of: number | 'self', name: string) => readlinkSync(`/proc/${of}/ns/${name}`);
    const links = (await exec('for name in /proc/self/ns/*; do readlink $name; done')).stdout;
    expect(links.trim().split('\n')).toEqual(
      readdirSync(`/proc/${pid}/ns`)
        .sort()
        .map(name => namespace(pid, name)),
    );
    // With cgroup v2 it sees its own cgroup as the root.
    const cgroups = readFileSync(`/proc/${pid}/cgroup`, 'utf8');
    const isRoot = namespace(pid, 'cgroup') !== namespace('self', 'cgroup');
    const seen = isRoot ? cgroups.replaceAll(/:\/.*$/gm, ':/') : cgroups;
    expect((await exec('cat /proc/self/cgroup')).stdout).toBe(seen);
  });
});

describe('what cannot be run', () => {
  const notRun = async (call: Promise<unknown>, code: number, ...words: string[]) => {
    const failure = await failureOf(call);
    expect(failure.code).toBe(code);
    for (const word of words) expect(failure.details).toContain(word);
  };

  it('is an unknown command', () =>
    notRun(
      node.cri.ExecSync({ containerId, cmd: ['/no/such/command'] }),
      grpc.UNKNOWN,
      '/no/such/command',
      containerId,
    ));
  it('is a file that is no program', () =>
    notRun(node.cri.ExecSync({ containerId, cmd: ['/etc/passwd'] }), grpc.UNKNOWN, 'permission denied'));
  it('is no command at all', () =>
    notRun(node.cri.ExecSync({ containerId, cmd: [] }), grpc.INVALID_ARGUMENT, containerId));
  it('is a negative timeout', () =>
    notRun(node.cri.ExecSync({ containerId, cmd: ['true'], timeout: -1 }), grpc.INVALID_ARGUMENT, 'timeout'));
  it('is anything in a container that does not exist', () =>
    notRun(
      node.cri.ExecSync({ containerId: 'f'.repeat(64), cmd: ['true'] }),
      grpc.NOT_FOUND,
      'f'.repeat(64),
    ));
  it('is anything in a container that has exited, or was not started', async () => {
    const { status } = await node.output(pod, 'true');
    await notRun(
      node.cri.ExecSync({ containerId: status.id, cmd: ['true'] }),
      grpc.FAILED_PRECONDITION,
      status.id,
    );
    const created = await node.createContainer(pod, 'true');
    await notRun(
      node.cri.ExecSync({ containerId: created, cmd: ['true'] }),
      grpc.FAILED_PRECONDITION,
      created,
    );
  });
  it('leaves nothing behind', () => alone());
});

describe('a container that ends while a command runs in it', () => {
  it.each(['CONTAINER', 'POD'] as const)('ends the command too, in a PID namespace of the %s', async pid => {
    const id = await node.runContainer(pod, 'exec sleep 1000', secured({ namespaceOptions: { pid } }));
    const call = exec('sleep 1000', 0, id);
    await until('the command runs', async () => (await commands(id)).length > 1 || undefined);
    await node.cri.StopContainer({ containerId: id });
    expect((await call).exitCode).toBe(137);
  });
});
