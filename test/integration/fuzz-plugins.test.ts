// A CNI plugin that answers nonsense: spoilt results, spoilt errors, noise, too much. RunPodSandbox succeeds or says why it
// does not; the daemon lives, and every pod can be removed.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { afterOnePod, type Everything, untilAsBefore } from '../support/everything.ts';
import { createFuzz } from '../support/fuzz.ts';
import { startNode, type TestNode } from '../support/node.ts';

const fuzz = createFuzz();
const { pick, chance } = fuzz;

let node: TestNode;
let before: Everything;
const answerFile = (verb: string) => join(node.directory, 'answers', verb);
const right = {
  cniVersion: '1.0.0',
  interfaces: [{ name: 'eth0', mac: '00:11:22:33:44:55', sandbox: '/x' }],
  ips: [{ interface: 0, address: '10.1.0.5/16', gateway: '10.1.0.1' }],
  routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1' }],
  dns: {},
};
const wrong = { cniVersion: '1.0.0', code: 11, msg: 'try again', details: 'later' };

beforeAll(async () => {
  const answers = (verb: string) =>
    `answers=\${0%/plugins/*}/answers; cat $answers/${verb}; cat $answers/stderr >&2; exit $(cat $answers/code)`;
  node = await startNode({
    cni: { '10-liar.conf': { cniVersion: '1.0.0', name: 'liar', type: 'liar' } },
    plugins: { liar: { ADD: answers('ADD'), DEL: answers('DEL') } },
  });
  mkdirSync(join(node.directory, 'answers'));
  answer(JSON.stringify(right), '', 0);
  before = await afterOnePod(node);
});
afterAll(async () => {
  answer(JSON.stringify(right), '', 0);
  await node.destroy();
});

function answer(add: string, del: string, code: number, stderr = ''): void {
  for (const [name, text] of Object.entries({ ADD: add, DEL: del, code: String(code), stderr })) {
    writeFileSync(answerFile(name), text);
  }
}

function nonsense(): string {
  const text = JSON.stringify(chance(0.8) ? fuzz.spoilJson(pick([right, wrong])) : right) ?? '';
  return pick([
    () => text,
    () => text,
    () => fuzz.spoilText(text, ['{', '}', ',', '"', ':', '\n', '\ufeff']),
    () => '',
    () => fuzz.text(),
    () => `${text}${text}`,
    () => `warning: deprecated\n${text}`,
    () => `{"cniVersion":"1.0.0","ips":[${'{"address":"10.1.0.5/16"},'.repeat(60_000)}]}`,
  ])();
}

const some = (count: number) => count > 0;

describe(`with seed ${fuzz.seed}`, () => {
  it('whatever a plugin answers, the pod comes up or not in words, and can be removed', {
    timeout: 3_600_000,
  }, async () => {
    const outcomes = { up: 0, refused: 0 };
    const pods = await fuzz.during(
      3,
      async count => {
        const inOrder = count % 10 === 9; // after nine of nonsense, a pod that must come up
        if (inOrder) answer(JSON.stringify(right), '', 0);
        else {
          const del = chance(0.3) ? nonsense() : '';
          answer(nonsense(), del, chance(0.8) ? 0 : pick([1, 2, 255]), chance(0.2) ? fuzz.text() : '');
        }
        try {
          await node.runPod();
          outcomes.up++;
        } catch (error) {
          if (inOrder) throw error;
          expect(String(error)).not.toMatch(/Cannot read propert|is not a function|is not iterable/);
          outcomes.refused++;
        }
        const { items } = await node.cri.ListPodSandbox();
        for (const { id } of items) {
          await node.cri.PodSandboxStatus({ podSandboxId: id, verbose: true });
          await node.cri.RemovePodSandbox({ podSandboxId: id }).catch(() => {}); // its DEL may fail for now
        }
      },
      60,
    );
    console.log(`fuzzed plugin output: ${pods} pods, seed ${fuzz.seed}`, outcomes);
    expect(outcomes).toEqual({ up: expect.toSatisfy(some), refused: expect.toSatisfy(some) });
    answer(JSON.stringify(right), '', 0);
    await untilAsBefore(node, before);
  });
});
